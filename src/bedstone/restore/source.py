"""Choose the source of a restore: this server, a destination, or the WAL."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from bedstone.backup import catalog
from bedstone.core import disk, paths, scratch
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, releases
from bedstone.offsite import copies
from bedstone.pitr import backup as past_backup
from bedstone.pitr import cluster, window
from bedstone.postgres import queries
from bedstone.restore import past_uploads
from bedstone.storage import destinations
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bedstone.backup.manifest import Media
    from bedstone.backup.settings import App, Settings
    from bedstone.storage.destinations import Destination, Destinations

logger = logging.getLogger(__name__)

PLACES = "/var/cache/bedstone-restore"


@dataclass(frozen=True)
class Wanted:
    """The operator's request; one of the first three.

    Attributes:
        backup: a name, a path, or ``latest``.
        time: the moment to go back to.
        release: whose restore point.
        destination: where from, or None.
        as_of: read the destination as it was at this moment; None: as it is.
        uploads: of a moment, those that fit it, too.

    """

    backup: str | None = None
    time: datetime | None = None
    release: str | None = None
    destination: str | None = None
    as_of: datetime | None = None
    uploads: bool = True

    @property
    def takes_long(self) -> bool:
        """Return whether the backup has to be fetched or made first."""
        return self.time is not None or self.destination is not None

    def checked(self, app: str) -> Wanted:
        """Return it if it names exactly one backup, moment or release.

        Raises:
            RefusedError: it says nothing, or several things.

        """
        given = [value for value in (self.backup, self.time, self.release) if value is not None]
        if len(given) != 1:
            raise RefusedError(
                "Say what is to be restored: a backup, --time or --release."
                if not given
                else "One of these is enough: a backup, --time or --release.",
                hint=f"`bedstone restore {app} --list` says what there is;"
                f" `bedstone restore {app} latest` takes the newest full backup.",
            )
        if self.as_of is not None and self.destination is None:
            raise RefusedError(
                "--as-of is about a destination: say which one.",
                hint="`bedstone destinations` lists them; --time is what the data is to be like.",
            )
        return self


@dataclass(frozen=True)
class Found:
    """The backup to restore.

    Attributes:
        path: its directory.
        destination: where it came from, or None when it was here.
        ended_at: of a moment: when the last transaction that is in it was committed.
        lsn: likewise, where in the WAL.
        said: notes on it for the operator.
        uploads: of a moment: those that fit it; None: they stay as they are.

    """

    path: Path
    destination: str | None = None
    ended_at: datetime | None = None
    lsn: str | None = None
    said: tuple[str, ...] = ()
    uploads: Media | None = None


def moment(text: str) -> datetime:
    """Return the moment that an operator wrote.

    Raises:
        RefusedError: it is none, or it doesn't say of which time zone.

    """
    example = "Write it like '2026-11-20 10:00:00+00:00', or '2026-11-20 10:00:00 UTC'."
    cleaned = text.strip()
    if cleaned.upper().endswith("UTC"):
        cleaned = f"{cleaned[:-3].strip()}+00:00"
    try:
        found = datetime.fromisoformat(cleaned)
    except ValueError as error:
        raise RefusedError(f"{text!r} is no moment.", hint=example) from error
    if found.tzinfo is None:
        raise RefusedError(f"{text!r} doesn't say in which time zone.", hint=example)
    return found


@contextmanager
def found(settings: Settings, app: App, home: Path, wanted: Wanted) -> Iterator[Found]:
    """Find, fetch or make the backup to restore; what was fetched is gone after the block.

    The caller holds the lock of the app's data.

    Args:
        settings: this server's.
        app: whose data.
        home: where its backups are on this server.
        wanted: the operator's request.

    Raises:
        RefusedError: there is no such backup, moment or destination.

    """
    places = paths.host(PLACES) / app.app
    scratch.clear(places)
    declared = destinations.load()
    if wanted.time is not None:
        made = _of_moment(settings, app, home, wanted.time, _with_wal(declared, wanted), places)
        yield _with_uploads(made, app, wanted)
    elif wanted.release is not None:
        yield Found(home / _point_of(app.app, wanted.release, home))
    elif wanted.destination not in {None, destinations.LOCAL}:
        place = declared.get(wanted.destination or "").at(wanted.as_of)
        with scratch.place(places, app=app.app, part="fetch") as directory:
            path = copies.fetch(
                place,
                app.app,
                wanted.backup or catalog.LATEST,
                directory / "fetched",
                watch=lambda: disk.still(directory, settings.reserve_bytes, "The restore"),
            )
            yield Found(path, place.name, said=(f"{path.name} was fetched from {place.name}.",))
    else:
        yield Found(catalog.resolve(home, wanted.backup or catalog.LATEST))


def _with_wal(declared: Destinations, wanted: Wanted) -> Destination:
    """Return the destination to go back from."""
    if wanted.destination is not None:
        return declared.get(wanted.destination).at(wanted.as_of)
    stanza = Stanza(declared)
    if not stanza.repositories:
        raise RefusedError(
            "No WAL is kept anywhere, so there is no moment to go back to.",
            hint="`bedstone backups` lists what can be restored.",
        )
    return stanza.repositories[0]


def _of_moment(
    settings: Settings,
    app: App,
    home: Path,
    target: datetime,
    destination: Destination,
    places: Path,
) -> Found:
    if app.database is None:
        raise RefusedError(
            f"{app.app} has no database, and uploads can't be brought to a moment.",
            hint="`bedstone backups` lists what can be restored.",
        )
    stanza = Stanza(destinations.load())
    if destination.as_of is None:
        _let_it_arrive(stanza, destination)
    with (
        scratch.place(places, app=app.app, part="past") as place,
        cluster.cluster(
            stanza,
            destination,
            place,
            target,
            reserve_bytes=settings.reserve_bytes,
            watch=lambda: disk.still(place, settings.reserve_bytes, "The restore"),
        ) as found,
    ):
        made = past_backup.make(settings, app, home, found, target)
    said = (
        f"It is {app.database} as it was at {window.text_of(target)}, from"
        f" {destination.name}: the last transaction of the cluster until then was committed at"
        f" {window.text_of(found.ended_at)} (WAL {found.lsn})."
    )
    return Found(made, destination.name, found.ended_at, found.lsn, (said,))


def _with_uploads(found: Found, app: App, wanted: Wanted) -> Found:
    """Return a backup of a moment with the uploads that fit it, as far as there are such."""
    if app.media is None or wanted.time is None:
        return found
    uploads, words = None, "Uploads stay as they are."
    if wanted.uploads:
        first = None if wanted.as_of else found.destination
        uploads, words = past_uploads.find(app, app.media, wanted.time, first)
    return replace(found, uploads=uploads, said=(*found.said, words))


def _let_it_arrive(stanza: Stanza, destination: Destination) -> None:
    """Have what was committed until now archived.

    PostgreSQL is only sure of having reached a moment when it sees a later transaction: so there is
    one. When the server doesn't answer, what is at the destination has to do.
    """
    try:
        queries.assign_transaction(stanza.server)
        stanza.arrived(destination, stanza.switch())
    except BedstoneError as error:
        logger.warning(
            "what was committed last may not be at %s: %s", destination.name, error.message
        )


def _point_of(app: str, release: str, home: Path) -> str:
    """Return the name of a release's restore point."""
    made: dict[str, str] = {}
    try:
        with database.opened() as connection:
            for operation in releases.operations(connection, app):
                if operation.restore_point and (home / operation.restore_point).is_dir():
                    made.setdefault(operation.release, operation.restore_point)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("the ledger can't be read: %s", error)
    for backup in catalog.backups(home):
        if backup.manifest and backup.manifest.restore_point and backup.manifest.label:
            made.setdefault(backup.manifest.label, backup.name)
    if release in made:
        return made[release]
    raise RefusedError(
        f"There is no restore point of the release {release} of {app}.",
        hint="One is made before a release changes the schema. There are those of: "
        + (", ".join(sorted(made)) or "none")
        + ".",
    )
