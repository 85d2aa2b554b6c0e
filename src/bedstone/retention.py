"""Which backups have served their time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bedstone import catalogue, files

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from bedstone.catalogue import Backup


def expired(
    backups: Sequence[Backup],
    *,
    app: str,
    now: datetime,
    keep_days: int,
    keep_at_least: int,
    protected: Collection[str] = (),
) -> list[Backup]:
    """Return the backups that may be removed.

    Args:
        backups: an app's backups, newest first.
        app: whose backups may be removed; a directory without a manifest of ours, or
            with another app's, is never returned.
        now: the present moment.
        keep_days: those begun at most this many days ago stay.
        keep_at_least: the newest so many complete ones stay whatever their age.
        protected: names that stay whatever their age.

    """
    ours = [backup for backup in backups if backup.manifest and backup.manifest.app == app]
    kept = {backup.name for backup in [b for b in ours if b.good][:keep_at_least]}
    limit = now - timedelta(days=keep_days)
    return [
        backup
        for backup in ours
        if backup.manifest
        and backup.manifest.started < limit
        and backup.name not in kept
        and backup.name not in protected
    ]


def remove(backup: Backup) -> None:
    """Remove a backup; one that is half removed no longer has a backup's name."""
    doomed = backup.path.with_name(f"{catalogue.DELETING}{backup.name}")
    backup.path.rename(doomed)
    files.sync_directory(doomed.parent)
    files.remove_tree(doomed)
