"""Copy uploads to the destinations between the backups: ``bedstone copy --uploads``.

The snapshot is made right at each destination. What the last one there holds, which may be that of
a backup, is neither read nor sent again; a directory that didn't change adds no snapshot.
"""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.core import lock
from bedstone.core.errors import BedstoneError
from bedstone.ledger import copies as copies_history
from bedstone.ledger import database, observations
from bedstone.ledger.kinds import DUMP, UPLOADS
from bedstone.offsite.sync import LOCK, Result
from bedstone.storage.restic import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bedstone.backup.settings import App
    from bedstone.storage.destinations import Destination

logger = logging.getLogger(__name__)

PURPOSE = "bedstone copy --uploads"
# The timer looks every five minutes, and not to the second.
_EARLY = timedelta(minutes=2)


def run(
    *,
    wanted: Sequence[Destination],
    apps: Sequence[App],
    due: bool = False,
    wait_seconds: float = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Copy the uploads of apps to destinations, as they are now.

    Args:
        wanted: the destinations to send to.
        apps: whose; an app without `copy_every_minutes` is left out.
        due: only where the interval has passed since the last run that succeeded.
        wait_seconds: how long to wait for another run to end.
        say: called with the text of each step.

    Returns:
        A result for each destination at which there was something to do.

    Raises:
        LockedError: another run, or one of all copies, is running.

    """
    todo = [
        (place, app.app, app.media)
        for place in wanted
        for app in apps
        if app.media is not None and app.copy_every is not None
        if not due or (app.media.is_dir() and _is_due(app, place))
    ]
    results = {place.name: Result(place.name) for place, _, _ in todo}
    if todo:
        with lock.held(LOCK, PURPOSE, wait_seconds=wait_seconds):
            for place, app_name, media in todo:
                say(f"{place.name}: {app_name}: sends its uploads")
                _copy(app_name, media, place, results[place.name])
    return list(results.values())


def _is_due(app: App, place: Destination) -> bool:
    if app.copy_every is None:
        return False
    try:
        last = _last(app.app, place)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("the ledger doesn't tell when uploads were last copied: %s", error)
        return True
    if last is None or last.newest_at is None:
        return True
    passed = datetime.now(UTC) - last.newest_at
    # A clock that was ahead is no reason to wait.
    return passed >= app.copy_every - _EARLY or passed < timedelta(0)


def _last(app: str, place: Destination) -> observations.Arrival | None:
    with database.opened() as connection:
        found = observations.last_seen(connection, destination=place.name, app=app, kind=UPLOADS)
    return found[0] if found else None


def _copy(app: str, media: Path, place: Destination, result: Result) -> None:
    started = datetime.now(UTC)
    if not media.is_dir():
        result.notes.append(f"{app}: there is no {media} to copy: the app was never released")
        return
    name = f"{UPLOADS}_{started:%Y%m%d_%H%M%S}"
    if not _has_backup(app, place):
        result.notes.append(f"{app}: its uploads follow when the first backup is there")
        return
    try:
        made = _send(app, name, media, Repository(place))
    except (BedstoneError, OSError) as error:
        told = error if isinstance(error, BedstoneError) else BedstoneError(f"{error}.")
        result.problems.append(told)
        _record(app, name, place, started, error=told.message)
        return
    what = f"{app}: its uploads of {started:%H:%M:%S} UTC" if made else f"{app}: no new uploads"
    result.sent.append(what)
    _record(app, name, place, started, made=made)


def _has_backup(app: str, place: Destination) -> bool:
    """Return whether a backup of this server is there.

    On a new server that is yet to be rebuilt, an empty directory would pass for the newest uploads.
    The first backup makes the repository, too.
    """
    try:
        with database.opened() as connection:
            return copies_history.has_arrived(connection, app, DUMP, place.name)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("the ledger doesn't tell whether a backup is there: %s", error)
        return True


def _send(app: str, name: str, media: Path, repository: Repository) -> bool:
    """Return whether there was something new, which is seen at the destination then."""
    tags = {"app": app, "kind": UPLOADS, "backup": name}
    sent, _ = repository.backup(media.parent, [media.name], tags, skip_unchanged=True)
    if not sent:
        return False
    if not any(snapshot.id.startswith(sent) for snapshot in repository.snapshots(tags)):
        place = repository.destination.name
        raise BedstoneError(f"{name} of {app} was sent to {place}, but isn't there.")
    return True


def _record(
    app: str,
    name: str,
    place: Destination,
    started: datetime,
    *,
    made: bool = False,
    error: str | None = None,
) -> None:
    """Record when uploads were last copied, and each change from success to failure and back."""
    try:
        last = _last(app, place)
        if error is None:
            newest = name if made else last and last.newest
            observations.record(place.name, app, UPLOADS, newest=newest or None, newest_at=started)
        with database.opened() as connection:
            before = copies_history.last_state(connection, app, UPLOADS, place.name)
        # A run each few minutes: not each of them is an entry.
        if before != ("failed" if error else "succeeded"):
            copies_history.record(app, UPLOADS, name, place.name, started, error=error)
    except (BedstoneError, sqlite3.Error) as unrecorded:
        logger.warning("nothing was recorded: %s", unrecorded)
