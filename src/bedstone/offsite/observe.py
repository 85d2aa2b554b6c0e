"""Check a destination and record what is there."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from bedstone.backup import catalog
from bedstone.backup.manifest import RESTIC
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, observations
from bedstone.ledger.kinds import CONFIGURATION, DUMP, MEDIA, SERVER, UPLOADS
from bedstone.offsite import copies, verification_reports
from bedstone.storage import destinations, restic_errors
from bedstone.storage.reachability import ReachError
from bedstone.storage.restic import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import App, Settings
    from bedstone.storage.destinations import Destination
    from bedstone.storage.restic import Snapshot

# Problems that may be gone in an hour without an operator's action.
_PASSING = {restic_errors.UNREACHABLE, restic_errors.LOCKED, restic_errors.OTHER}

# Of so many backups on this server the uploads have to be there: an alarm that ends by itself, a
# week of nights after a repository was lost.
_LOOKED_AT = 7


def expected(settings: Settings, destination: Destination) -> list[tuple[str, str]]:
    """Return app and kind of all that should arrive at a destination, WAL apart."""
    found = []
    for app in settings.apps:
        found.append((app.app, DUMP))
        if app.media is not None and destinations.has_key():
            found.append((app.app, MEDIA))
            if app.copy_every is not None and not destination.is_local:
                found.append((app.app, UPLOADS))
    if not destination.is_local:
        found.append((SERVER, CONFIGURATION))
    return found


def measure(
    settings: Settings, destination: Destination, seen: list[Snapshot] | None = None
) -> None:
    """Check a destination and record what is there; a problem there is recorded, not raised.

    Args:
        settings: this server's.
        destination: where.
        seen: the observations of just now, if there are any.

    """
    wanted = expected(settings, destination)
    try:
        snapshots = _snapshots(destination) if seen is None else seen
    except BedstoneError as error:
        passing = not isinstance(error, ReachError) or error.reason in _PASSING
        told = observations.unseen if passing else observations.unusable
        for app, kind in wanted:
            if destination.is_local and kind == DUMP:
                _local_dump(settings, settings.app(app))
            else:
                told(destination.name, app, kind, error.message)
        return
    if not destination.is_local:
        verification_reports.read(destination, snapshots)
    for app, kind in wanted:
        if kind == CONFIGURATION:
            _configuration(destination, snapshots)
        elif kind == UPLOADS:
            _uploads(destination, app, snapshots)
        elif not destination.is_local:
            _remote(destination, app, kind, snapshots)
        elif kind == DUMP:
            _local_dump(settings, settings.app(app))
        else:
            _local_media(settings, settings.app(app), snapshots)


def _snapshots(destination: Destination) -> list[Snapshot]:
    if destination.is_local and not (
        destinations.has_key() and destination.restic and destination.restic.exists()
    ):
        return []
    return copies.snapshots_of(Repository(destination))


def _remote(destination: Destination, app: str, kind: str, snapshots: list[Snapshot]) -> None:
    # A backup without a snapshot of its uploads has them, or none, in its directory.
    newest = next((remote for remote in copies.whole(snapshots, app) if remote.full), None)
    observations.record(
        destination.name,
        app,
        kind,
        newest=newest.name if newest else None,
        newest_at=newest.started if newest else None,
        size=newest.bytes if newest and kind == DUMP else None,
    )


def _configuration(destination: Destination, snapshots: list[Snapshot]) -> None:
    found = copies.of_kind(snapshots, SERVER, CONFIGURATION)
    newest = found[-1] if found else None
    started = newest.tags.get("started") if newest else None
    moment = newest.time if newest else None
    observations.record(
        destination.name,
        SERVER,
        CONFIGURATION,
        newest=newest.tags.get("backup") if newest else None,
        newest_at=datetime.fromisoformat(started) if started else moment,
    )


def _uploads(destination: Destination, app: str, snapshots: list[Snapshot]) -> None:
    """Record the newest copy of an app's uploads; when that was compared, a run alone knows.

    A directory that doesn't change adds no snapshot, so the age of the newest one says nothing.
    """
    with database.opened() as connection:
        last = observations.last_seen(
            connection, destination=destination.name, app=app, kind=UPLOADS
        )
    found = copies.of_kind(snapshots, app, UPLOADS)
    observations.record(
        destination.name,
        app,
        UPLOADS,
        newest=found[-1].tags.get("backup") if found else None,
        newest_at=last[0].newest_at if last else None,
    )


def _without_uploads(backups: Sequence[Backup], known: Collection[str]) -> list[str]:
    """Return the names of the backups with an unknown snapshot of uploads."""
    return [
        backup.name
        for backup in backups
        if backup.manifest is not None
        and (media := backup.manifest.media) is not None
        and media.engine == RESTIC
        and media.snapshot not in known
    ]


def _local_dump(settings: Settings, app: App) -> None:
    newest = catalog.newest(settings.directory / app.app)
    found = newest.manifest if newest else None
    observations.record(
        destinations.LOCAL,
        app.app,
        DUMP,
        newest=newest.name if newest else None,
        newest_at=found.started if found else None,
        size=found.bytes if found else None,
    )


def _local_media(settings: Settings, app: App, snapshots: list[Snapshot]) -> None:
    full = catalog.usable(settings.directory / app.app)
    newest = full[0] if full else None
    found = newest.manifest if newest else None
    media = found.media if found else None
    # Not only of the newest: the night after a repository was lost makes another one.
    gone = _without_uploads(full[:_LOOKED_AT], {snapshot.id for snapshot in snapshots})
    problem = None
    if gone:
        more = f" (and of {len(gone) - 1} more)" if len(gone) > 1 else ""
        problem = (
            f"the uploads of {gone[0]}{more} aren't in the repository of this server: it was lost"
            " or emptied; a restore takes them from a destination that has them"
        )
    observations.record(
        destinations.LOCAL,
        app.app,
        MEDIA,
        newest=newest.name if newest and media else None,
        newest_at=found.started if found and media else None,
        size=media.bytes if media else None,
        problem=problem,
    )
