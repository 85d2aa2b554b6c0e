"""Choose and fetch the backup that is to be verified."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.backup import catalog
from bedstone.core import clock
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, releases
from bedstone.offsite import copies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import App
    from bedstone.storage.destinations import Destination

logger = logging.getLogger(__name__)


class NothingToVerifyError(RefusedError):
    """There is no backup."""


def choose(home: Path, app: App, wanted: str, points: Collection[str]) -> tuple[Backup, list[str]]:
    """Return the backup that an operator, or the timer, asked for, and what is to be said of that.

    ``latest`` is the newest full one: a restore point has no media and is made for a release, not
    for the day on which the server is lost. A damaged one isn't passed over, since it is the one
    that people would reach for. One from the future is: it would stand for all that follow.

    Args:
        home: the app's backups.
        app: whose.
        wanted: ``latest``, a backup's name or a path.
        points: names of the restore points.

    Raises:
        RefusedError: there is no such backup.

    """
    now = datetime.now(UTC)
    if wanted != "latest":
        backup = catalog.load(catalog.resolve(home, wanted))
        notes = [_told_of_the_future(backup)] if clock.is_ahead(_started(backup), now) else []
        return backup, notes
    full = [
        backup
        for backup in catalog.backups(home)
        if backup.name not in points and _full(app, backup)
    ]
    full.sort(key=lambda backup: (_started(backup), backup.name), reverse=True)
    notes = [_told_of_the_future(b) for b in full if clock.is_ahead(_started(b), now)]
    chosen = next((b for b in full if not clock.is_ahead(_started(b), now)), None)
    if chosen is None:
        raise NothingToVerifyError(
            " ".join([f"There is no full backup of {app.app} in {home} to verify.", *notes]),
            hint=f"Make one: `bedstone backup {app.app}`.",
        )
    return chosen, notes


@dataclass
class Fetching:
    """The backup that is being fetched, for the report of a failure."""

    name: str | None = None


def fetch(
    destination: Destination,
    app: App,
    wanted: str,
    into: Path,
    fetching: Fetching,
    *,
    watch: Callable[[], None],
) -> tuple[Backup, list[str]]:
    """Fetch a backup from a destination; return it with notes for the report.

    Args:
        destination: where from.
        app: whose.
        wanted: ``latest`` or a backup's name.
        into: a directory, made if need be.
        fetching: gets the name before anything is fetched.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        NothingToVerifyError: there is none.
        BedstoneError: it could not be fetched, or isn't what was sent.

    """
    there = copies.listed(destination, app.app)
    now = datetime.now(UTC)
    notes = [
        f"{remote.name} at {destination.name} is from the future: is the clock right (`date`)?"
        for remote in there
        if remote.full and clock.is_ahead(remote.started, now)
    ]
    fitting = [
        remote
        for remote in there
        if remote.name == wanted
        or (wanted == "latest" and remote.full and not clock.is_ahead(remote.started, now))
    ]
    if not fitting:
        what = "full backup" if wanted == "latest" else f"backup {wanted}"
        raise NothingToVerifyError(
            " ".join([f"There is no {what} of {app.app} at {destination.name}.", *notes]),
            hint="`bedstone copy` sends what is missing; `bedstone destinations` lists it.",
        )
    fetching.name = fitting[0].name
    return catalog.load(
        copies.fetch(destination, app.app, fitting[0].name, into, watch=watch)
    ), notes


def restore_points(app: str) -> set[str]:
    """Return the names of an app's backups that were made for a release; none if it is unknown."""
    try:
        with database.opened() as connection:
            operations = releases.operations(connection, app)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("the ledger doesn't tell which backups are restore points: %s", error)
        return set()
    return {operation.restore_point for operation in operations if operation.restore_point}


def _full(app: App, backup: Backup) -> bool:
    found = backup.manifest
    if found is None or found.app != app.app:
        # The report has the problem with it.
        return True
    return (
        not found.restore_point
        and (app.media is None or found.media is not None)
        and (app.database is None or found.database is not None)
    )


def _started(backup: Backup) -> datetime:
    if backup.manifest is not None:
        return backup.manifest.started
    # Its manifest can't be read; its name says when, too.
    try:
        return datetime.strptime(backup.name, "backup_%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _told_of_the_future(backup: Backup) -> str:
    return (
        f"{backup.name} is from the future ({_started(backup):%Y-%m-%d %H:%M} UTC): the server's"
        " clock was wrong when it was made, or is wrong now (`timedatectl`)."
    )
