"""Record what a converge made on this server, and what it still has to do because of it.

One JSON file per converge in /var/lib/bedstone/converge. It is written before the first file
moves into place (with all reloads, restarts and commands that follow from the change) and again
after each of those is done: whatever kills a run in between, the next one does the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bedstone_files import sync_directory
    from bedstone_run import ConvergeError
else:
    from ansible.module_utils.bedstone_files import sync_directory
    from ansible.module_utils.bedstone_run import ConvergeError

DIRECTORY = "var/lib/bedstone/converge"
SCHEMA = 1
LOCK_WAIT_SECONDS = 120.0


@dataclasses.dataclass
class Pending:
    """Actions that follow from a change of files and aren't done yet."""

    units: dict[str, str] = dataclasses.field(default_factory=dict)  # name: "reload" or "restart"
    commands: list[list[str]] = dataclasses.field(default_factory=list)
    daemon_reload: bool = False

    def __bool__(self) -> bool:
        """Return whether anything is left to do."""
        return bool(self.units or self.commands or self.daemon_reload)


@dataclasses.dataclass
class Manifest:
    """The files, links and directories a converge made, and its pending actions."""

    name: str
    # path: the SHA-256 first written for a file to be created only, else None.
    files: dict[str, str | None] = dataclasses.field(default_factory=dict)
    directories: list[str] = dataclasses.field(default_factory=list)
    pending: Pending = dataclasses.field(default_factory=Pending)

    def as_json(self) -> str:
        """Return the text that is stored."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=1, sort_keys=True)


def load(root: Path, name: str) -> Manifest:
    """Read a manifest; one that doesn't exist is empty.

    Raises:
        ConvergeError: the file can't be understood.

    """
    place = _place(root, name)
    try:
        return _parse(json.loads(place.read_text()), name)
    except FileNotFoundError:
        return Manifest(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConvergeError(
            f"{place} can't be understood ({error}). Remove it: the next run makes it anew, and "
            "only forgets which files of earlier runs are to be removed."
        ) from error


def _parse(stored: dict[str, Any], name: str) -> Manifest:
    if stored["schema"] != SCHEMA:
        raise ValueError(f"schema {stored['schema']}, not {SCHEMA}")
    pending = stored["pending"]
    return Manifest(
        name=name,
        files=dict(stored["files"]),
        directories=list(stored["directories"]),
        pending=Pending(
            units=dict(pending["units"]),
            commands=[list(command) for command in pending["commands"]],
            daemon_reload=bool(pending["daemon_reload"]),
        ),
    )


def save(root: Path, manifest: Manifest) -> None:
    """Store a manifest, atomically and on the disk; only root can read it."""
    place = _place(root, manifest.name)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    temporary = place.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(manifest.as_json())
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(place)
    sync_directory(place.parent)


def paths_of_others(root: Path, name: str) -> set[str]:
    """Return all paths that belong to another converge of this server."""
    paths: set[str] = set()
    for place in (root / DIRECTORY).glob("*.json"):
        if place.stem != name:
            paths.update(load(root, place.stem).files)
    return paths


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock that lets one converge at a time change this server.

    Raises:
        ConvergeError: another one holds it for too long.

    """
    directory = root / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    descriptor = os.open(directory / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
    limit = time.monotonic() + LOCK_WAIT_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > limit:
                    raise ConvergeError(
                        "Another converge has been at work on this server for "
                        f"{LOCK_WAIT_SECONDS:.0f} seconds. Run it again when that one has ended."
                    ) from error
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _place(root: Path, name: str) -> Path:
    return root / DIRECTORY / f"{name}.json"
