"""Make a restore point before the schema changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.backup import create
from bedstone.backup import settings as backup_settings
from bedstone.core.errors import BedstoneError
from bedstone.ledger import releases

if TYPE_CHECKING:
    from bedstone.release.context import Rollout

# As long as a nightly backup that is just running may take.
WAIT_SECONDS = 3600.0


def restore_point(rollout: Rollout) -> str:
    """Back the database up under the release's name, if the schema is about to change."""
    app = rollout.app
    wanted = app.restore_point
    if app.database is None:
        return "no database"
    if wanted == "never":
        return "not wanted by the settings"
    if rollout.old is None:
        return "nothing has served yet"
    if wanted == "migrations" and not rollout.schema.changes:
        return "not needed: the schema stays"
    settings = backup_settings.of_app(app.name)
    if settings is None:
        return f"none: the database of {app.name} isn't on this host"
    try:
        made = create.create(
            settings, app.name, label=label(rollout), with_media=False, wait_seconds=WAIT_SECONDS
        )
    except BedstoneError as error:
        raise BedstoneError(
            f"Without a restore point no migration is run: {error.message}",
            hint=error.hint or "`restore_point: never` among the app's settings goes without.",
            details=error.details,
        ) from error
    rollout.restore_point = made.backup.name
    releases.set_restore_point(rollout.connection, rollout.operation, made.backup.name)
    return made.backup.name


def label(rollout: Rollout) -> str:
    """Return what a restore point is for: a new release's id, or the way back that follows it.

    The id alone of the release that is gone back to would read as if the backup had been made
    before that one.
    """
    if rollout.newer is None:
        return rollout.id
    if rollout.id == rollout.newer.release:
        return f"before restart of {rollout.id}"
    return f"before rollback to {rollout.id}"
