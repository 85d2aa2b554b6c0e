"""Hold the backups of a server back that has nothing yet: they would pass for the newest ones."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bedstone.core import files, names, paths
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from pathlib import Path

UNITS = (
    names.BACKUP_UNIT,
    names.COPY_UNIT,
    names.UPLOADS_UNIT,
    names.FULL_BACKUP_UNIT,
    names.INCREMENTAL_BACKUP_UNIT,
)
# True nowhere, so systemd skips each start.
_NEVER = "[Unit]\nConditionPathExists=!/run\n"


def hold() -> None:
    """Let no backup start, until `resume` or the next boot."""
    for unit in UNITS:
        directory = _directory(unit)
        directory.mkdir(parents=True, exist_ok=True)
        files.write(directory / "rebuild.conf", _NEVER, mode=0o644)
    Systemd().read_units()


def resume() -> None:
    """Let the backups start again."""
    for unit in UNITS:
        shutil.rmtree(_directory(unit), ignore_errors=True)
    Systemd().read_units()


def _directory(unit: str) -> Path:
    return paths.host(f"/run/systemd/system/{unit}.d")
