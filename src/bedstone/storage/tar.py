"""Call GNU tar.

It keeps owners, times and links, and goes on when a file changes while it is read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core import safe_tree
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.core.process import Runner

_UNPACK_SECONDS = 600.0
# tar: "some files differ", which for an archive means that they were changed or
# removed while they were read. The next backup has them as they are then.
_CHANGED = 1
_PROGRAMS = {".zst": "zstd -T0 -q", ".gz": "gzip"}


def create(directory: Path, target: Path, *, watch: Callable[[], None]) -> tuple[Path, str]:
    """Write a compressed archive of a directory that only its owner can read.

    Args:
        directory: what is archived.
        target: the archive; its name gets a suffix for the compression.
        watch: called repeatedly while it runs; its exception stops it.

    Returns:
        The archive's path, and tar's warnings of files that changed while they were read.

    Raises:
        BedstoneError: it could not be read or written.

    """
    suffix = ".zst" if shutil.which("zstd") else ".gz"
    path = target.with_name(f"{target.name}{suffix}")
    try:
        warnings = run(
            [
                "tar", "--create", f"--file={path}", "--numeric-owner", "--one-file-system",
                f"--use-compress-program={_PROGRAMS[suffix]}", f"--directory={directory}", ".",
            ],
            timeout=None,
            watch=watch,
            env={"LC_ALL": "C.UTF-8"},
            allowed=(0, _CHANGED),
        ).stderr  # fmt: skip
    except CommandError as error:
        raise BedstoneError(
            f"The media in {directory} could not be archived.", details=error.details
        ) from error
    path.chmod(0o600)
    return path, warnings


def check(path: Path, *, watch: Callable[[], None]) -> tuple[int, int]:
    """Read an archive to its end, and return what is in it.

    Returns:
        The number of files (links too), and the bytes in the regular ones: what was archived
        counts, not what the directory held a moment before.

    Raises:
        BedstoneError: it is damaged.

    """
    with tempfile.TemporaryFile() as listing:
        try:
            run(
                [
                    "tar",
                    "--list",
                    "--verbose",
                    "--numeric-owner",
                    f"--file={path}",
                    f"--use-compress-program={_PROGRAMS[path.suffix]}",
                ],
                timeout=None,
                watch=watch,
                stdout=listing,
                env={"LC_ALL": "C.UTF-8"},
            )
        except CommandError as error:
            raise BedstoneError(
                f"{path.name} can't be read back.", details=error.details
            ) from error
        listing.seek(0)
        files = size = 0
        # A line is kind and mode, owner, size, date, time and name.
        for line in listing:
            files += not line.startswith(b"d")
            size += int(line.split(None, 3)[2]) if line.startswith(b"-") else 0
        return files, size


def extract(path: Path, directory: Path, *, watch: Callable[[], None], sync: bool = True) -> None:
    """Unpack an archive into a directory that is made for it, owners and modes as they were.

    Nothing in it gives rights to the process that opens it: see ``safe_tree.disarm``.

    Args:
        path: the archive.
        directory: made.
        watch: called repeatedly while it runs; its exception stops it.
        sync: bring all to the disk; without it, only for a check.

    Raises:
        BedstoneError: it could not be read or written.

    """
    # The archive sets the directory's own mode: until all is disarmed, one above keeps others out.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as name:
        side = Path(name) / "media"
        side.mkdir(mode=0o700)
        try:
            run(
                [
                    "tar", "--extract", f"--file={path}", "--numeric-owner",
                    "--preserve-permissions", "--same-owner",
                    f"--use-compress-program={_PROGRAMS[path.suffix]}", f"--directory={side}",
                ],
                timeout=None,
                watch=watch,
                env={"LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except CommandError as error:
            raise BedstoneError(
                f"{path.name} could not be unpacked.", details=error.details
            ) from error
        safe_tree.disarm(side)
        side.rename(directory)
    if sync:
        os.sync()


def unpack_source(archive: Path, target: Path, runner: Runner) -> None:
    """Unpack an app's source archive into a directory."""
    # GNU tar, since Python 3.11 may have no extraction filters: tar
    # itself keeps out of absolute paths and `..`.
    runner(
        ["tar", "--extract", "--no-same-owner", "--file", str(archive), "--directory", str(target)],
        timeout=_UNPACK_SECONDS,
    )
