"""Measure the free space of the disks that hold containers, databases and backups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings
from bedstone.core import paths
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Below, it is red.
LEAST_PERCENT = 10


def usage() -> list[dict[str, Any]]:
    """Return the free space of each file system that matters here, and what is on it."""
    found: dict[int, dict[str, Any]] = {}
    for what, path in _places():
        try:
            device, status = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue
        if device in found:
            found[device]["holds"].append(what)
            continue
        total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        percent = 100 * free / total if total else 0.0
        found[device] = {
            "path": str(path),
            "holds": [what],
            "bytes": total,
            "free_bytes": free,
            "free_percent": round(percent, 1),
            "free_inodes_percent": _inodes(status),
            "ok": percent >= LEAST_PERCENT,
        }
    return list(found.values())


def _inodes(status: os.statvfs_result) -> float | None:
    # btrfs and others make them as they need them and say 0.
    return round(100 * status.f_favail / status.f_files, 1) if status.f_files else None


def _places() -> Iterator[tuple[str, Path]]:
    yield "the system", paths.host("/")
    yield "the kernels", paths.host("/boot")
    yield "logs", paths.host("/var/log")
    yield "Docker", paths.host("/var/lib/docker")
    yield "the database", paths.host("/var/lib/postgresql")
    yield "the archived log", paths.host("/var/lib/pgbackrest")
    try:
        yield "backups", settings.load().directory
    except BedstoneError:
        return
