"""Check the free space before a backup or restore, so that it never fills a disk."""

from __future__ import annotations

import os
from pathlib import Path

from bedstone.core.errors import RefusedError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


class DiskFullError(RefusedError):
    """There is too little disk space; the operation didn't begin, or was undone."""


def human(size: float) -> str:
    """Return a number of bytes in its largest unit ("12.3 MiB")."""
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            break
        size /= _STEP
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system on which ``path`` is, or would be made."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def require(path: Path, needed: int, reserve: int, what: str) -> None:
    """Refuse unless a file system has space for something and keeps a reserve.

    Args:
        path: a place on it.
        needed: bytes that will be written (an estimate).
        reserve: bytes that have to stay free.
        what: what needs the space, for the message ("A backup of payments").

    Raises:
        DiskFullError: says how much is free, needed and reserved.

    """
    free = free_bytes(path)
    if free - needed < reserve:
        raise DiskFullError(
            f"{what} needs about {human(needed)} at {path} and has to leave {human(reserve)} free,"
            f" but only {human(free)} is free.",
            hint="Make room (`df -h`, `bedstone backups`), or change `reserve_mb` or the"
            " directory in the settings of the backups.",
        )


def still(path: Path, reserve: int, what: str) -> None:
    """Raise when the reserve is being eaten: what is written has outgrown its estimate.

    Half of the reserve may be used up, since others write to the disk as well.

    Raises:
        DiskFullError: stop writing now.

    """
    free = free_bytes(path)
    if free < reserve // 2:
        raise DiskFullError(
            f"{what} was stopped: only {human(free)} is left at {path}, less than half of the"
            f" reserve of {human(reserve)}.",
            hint="Make room (`df -h`), then run it again; nothing of this run is kept.",
        )
