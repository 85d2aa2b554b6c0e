"""Show the last backup of an app, and whether it is recent enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bedstone.backup import catalog
from bedstone.backup import settings as backup_settings
from bedstone.core import age, clock
from bedstone.ledger import backups, database, observations
from bedstone.ledger.kinds import MEDIA
from bedstone.storage.destinations import LOCAL


def app_status(app: str, first_served: str | None) -> dict[str, Any] | None:
    """Return what is known of an app's backups, or None when it has none to make here.

    Args:
        app: the app.
        first_served: when its first release served, ISO 8601: the night after, there is a backup.

    """
    if not backup_settings.path().exists():
        return None
    settings = backup_settings.load()
    if app not in {entry.app for entry in settings.apps}:
        return None
    newest = catalog.newest(settings.directory / app)
    failure = backups.last_failure(app)
    old = newest.age if newest else None
    problem = None
    if failure is not None:
        problem = f"the last backup failed: {failure[1].splitlines()[0]}"
    elif old is not None and old > clock.NIGHTLY:
        problem = f"the last backup is {age.humanize(old.total_seconds())} old"
    elif old is None and first_served and _age(first_served) > clock.NIGHTLY:
        problem = f"there is no backup yet: `bedstone backup {app}` makes one"
    else:
        problem = _uploads(app)
    return {
        "newest": newest.name if newest else None,
        "age_seconds": int(old.total_seconds()) if old is not None else None,
        "failed_at": failure[0].isoformat(timespec="seconds") if failure else None,
        "problem": problem,
        "ok": problem is None,
    }


def _uploads(app: str) -> str | None:
    """Return what was seen to be wrong with the uploads of the backups on this server."""
    with database.opened() as connection:
        found = observations.last_seen(connection, destination=LOCAL, app=app, kind=MEDIA)
    return next((seen.problem for seen in found if not seen.unseen), None)


def _age(moment: str) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(moment)
