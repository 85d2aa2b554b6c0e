"""Make directories that can be removed after a kill: a marker next to each identifies it.

The marker is there before the directory and is removed after it. So whatever a kill left is found
by its marker, with the processes that ran in it, and a directory without a marker is never touched.

"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.core import files
from bedstone.core.errors import BedstoneError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIND = "bedstone-throwaway"
_MARKER = re.compile(r"verify-[0-9a-f]{12}\.json")
# What a kill leaves of a marker that was being written (files.write()).
_HALF_MARKER = re.compile(r"\.verify-[0-9a-f]{12}\.json\.[0-9a-f]{8}")

# The programs that run in such a directory; an operator's shell or editor is not among them.
_PROGRAMS = {
    "initdb", "postgres", "pg_restore", "pg_dump", "pg_amcheck", "psql", "tar", "zstd", "gzip",
    "pgbackrest", "restic",
}  # fmt: skip
_END_SECONDS = 10.0


@contextmanager
def place(home: Path, **about: str | None) -> Iterator[Path]:
    """Make a directory for a block, which is gone afterwards with all that ran in it.

    Args:
        home: it is made below; others may walk through it, but not look.
        about: what it is for, kept in the marker.

    Raises:
        RefusedError: others may write to ``home``.

    """
    _ensure(home)
    directory = home / f"verify-{secrets.token_hex(6)}"
    marker = directory.with_suffix(".json")
    document = {"kind": KIND, "pid": os.getpid(), "since": datetime.now(UTC).isoformat(), **about}
    files.write(marker, json.dumps(document) + "\n", mode=0o600)
    try:
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)
        yield directory
    finally:
        _remove(marker)


def clear(home: Path) -> list[dict[str, Any]]:
    """Remove what killed runs left, and return the contents of their markers.

    The caller holds the lock that is needed to make such a directory.

    Raises:
        BedstoneError: something in one of them doesn't end.

    """
    if not home.is_dir():
        return []
    found = []
    for path in sorted(home.iterdir()):
        if _HALF_MARKER.fullmatch(path.name):
            path.unlink()
        elif (about := _read(path)) is not None:
            _remove(path)
            found.append(about)
    return found


def _ensure(home: Path) -> None:
    if not home.exists():
        home.mkdir(mode=0o711, parents=True)
        # Whatever the caller's umask is: the cluster's user has to get through.
        home.chmod(0o711)
    status = home.lstat()
    if home.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise RefusedError(
            f"Others than root can write to {home}, so nothing is unpacked there.",
            hint=f"`chown root: {home}; chmod 711 {home}`, or another directory"
            " (`backup_verify_directory`).",
        )


def _read(path: Path) -> dict[str, Any] | None:
    if not _MARKER.fullmatch(path.name) or path.is_symlink() or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return document if isinstance(document, dict) and document.get("kind") == KIND else None


def _remove(marker: Path) -> None:
    directory = marker.with_suffix("")
    _end(directory)
    files.remove_tree(directory)
    marker.unlink(missing_ok=True)


def _end(directory: Path) -> None:
    """End the processes of a directory: cleanly, so that they free what they hold."""
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for pid in running(directory):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _wait(lambda: not running(directory)):
            return
    raise BedstoneError(
        f"Processes in {directory} don't end: {', '.join(map(str, running(directory)))}.",
        hint="See what they wait for: `ps -o pid,stat,wchan,args -p PID`.",
    )


def running(directory: Path) -> list[int]:
    """Return the processes that work in a directory of :func:`place`.

    They carry its name in their arguments; PostgreSQL's processes write their cluster's name there,
    which is the directory's.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            program = (entry / "comm").read_text().strip()
            arguments = (entry / "cmdline").read_bytes()
        except OSError:
            # It has ended since the listing.
            continue
        if program in _PROGRAMS and directory.name.encode() in arguments:
            found.append(int(entry.name))
    return found


def _wait(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _END_SECONDS
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
