"""Verify the WAL: recover the cluster, and compare each app's database with its last backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.backup import catalog
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.offsite import copies
from bedstone.pitr import cluster, window
from bedstone.postgres import dump, soundness
from bedstone.postgres import properties as database_properties
from bedstone.verify.checks import Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bedstone.backup.manifest import Manifest
    from bedstone.backup.settings import App, Settings
    from bedstone.backup.verify_settings import VerifySettings
    from bedstone.pitr.cluster import Past
    from bedstone.storage.destinations import Destination
    from bedstone.wal.stanza import Stanza

_SHOWN = 20


def prove(
    settings: Settings,
    how: VerifySettings,
    stanza: Stanza,
    destination: Destination,
    place: Path,
    *,
    watch: Callable[[], None],
) -> Proof:
    """Restore the cluster to the last archived transaction, and check every app's database.

    Args:
        settings: this server's.
        how: how backups are verified.
        stanza: the cluster.
        destination: where from.
        place: a directory that is removed afterwards.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        BedstoneError: it isn't what it should be, or ends before the newest WAL there; says how.

    """
    with cluster.cluster(
        stanza, destination, place, reserve_bytes=settings.reserve_bytes, watch=watch
    ) as found:
        rows, sound = 0, ""
        apps = [app for app in settings.apps if app.database]
        for app in apps:
            rows += _whole(settings, how, app, destination, found)
            sound = soundness.amcheck(found.server, watch, str(app.database))
        said = (
            f"the cluster is back up to {window.text_of(found.ended_at)} (WAL {found.lsn}):"
            f" {len(apps)} databases with {rows} rows"
        )
        return Proof(rows, None, f"{said}; {sound}" if sound else said)


def _whole(
    settings: Settings, how: VerifySettings, app: App, destination: Destination, found: Past
) -> int:
    """Return the rows of an app's database, which has to hold what the last backup recorded."""
    assert app.database is not None
    recorded = _recorded(settings, app, destination, found)
    properties = database_properties.read(found.server, app.database)
    if properties is None:
        if recorded is None:
            # Made since, or never filled.
            return 0
        raise BedstoneError(f"The database {app.database} of {app.app} isn't in it.")
    counted = dump.count(found.server, app.database)
    if missing := sorted(set(recorded or ()) - set(counted)):
        raise BedstoneError(
            f"Tables of {app.app} that the last backup has aren't in it.",
            hint="If a migration has dropped them since, make a new backup and verify once more:"
            f" `bedstone backup {app.app}`.",
            details="\n".join(missing[:_SHOWN]),
        )
    rows = sum(counted.values())
    if recorded and sum(recorded.values()) and not rows:
        raise BedstoneError(f"All tables of {app.app} are empty in it.")
    for check in how.checks.get(app.app, ()):
        soundness.ask(found.server, check, str(properties["owner"]), app.database)
    return rows


def _recorded(
    settings: Settings, app: App, destination: Destination, found: Past
) -> dict[str, int] | None:
    """Return the rows of each table in the newest backup that is older than the cluster."""
    for described in _manifests(settings, app, destination):
        if described.database is None or described.restore_point:
            continue
        if described.finished <= found.ended_at:
            return described.database.rows
    return None


def _manifests(settings: Settings, app: App, destination: Destination) -> Iterator[Manifest]:
    """Yield what the app's backups hold, the newest first."""
    if paths.origin() is None:
        for backup in catalog.backups(settings.directory / app.app):
            if backup.manifest is not None:
                yield backup.manifest
        return
    # On another host, a backup has come no farther than to the destination.
    for remote in copies.listed(destination, app.app):
        if remote.full:
            yield copies.manifest_of(destination, remote)
