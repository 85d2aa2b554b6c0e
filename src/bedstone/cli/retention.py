"""Show what a smaller retention would remove, and accept it: `bedstone retention`."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.backup import catalog, kept, retention, retention_held
from bedstone.backup import settings as backup_settings
from bedstone.cli import main
from bedstone.core.errors import BedstoneError
from bedstone.offsite import copies
from bedstone.storage import destinations
from bedstone.storage.restic import Repository
from bedstone.wal import backup as pgbackrest_run
from bedstone.wal import retention as wal_retention
from bedstone.wal.info import FULL
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bedstone.backup.retention_held import Retention
    from bedstone.storage.destinations import Destination


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "retention",
        run,
        summary="show what a smaller retention would remove, and let it",
        description="When the settings lower keep_days, keep_weeks, keep_months or\n"
        "keep_point_in_time_days, nothing is removed for that until it is accepted here:\n"
        "what was kept stays, on this server and at every destination.\n\n"
        "Without --accept it lists what would go. With it, the next backup, copy and backup of\n"
        "the log remove it.",
        examples=("bedstone retention", "bedstone retention --accept"),
    )
    parser.add_argument(
        "--accept", action="store_true", help="let the settings' smaller retention be in force"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show what is held back, or let it go."""
    held = retention_held.held()
    doomed = list(_doomed()) if held else []
    if arguments.accept:
        retention_held.accept()
    if arguments.json:
        print(json.dumps({"held": held, "removed": doomed, "accepted": arguments.accept}))
        return 0
    if not held:
        print("What the settings say is in force: nothing is held back.")
        return 0
    for name, (before, now) in held.items():
        print(f"{name}: {before} in force, {now} in the settings")
    for entry in doomed:
        if entry["error"]:
            print(f"  {entry['destination']}: can't be looked at now: {entry['error']}")
            continue
        names = entry["names"]
        shown = f"{names[-1]} to {names[0]}" if len(names) > 1 else names[0]
        print(f"  {entry['app']} at {entry['destination']}: {len(names)} {entry['kind']}, {shown}")
    if not any(entry["names"] for entry in doomed):
        print("  Today nothing would go by it.")
    if arguments.accept:
        print("Accepted: the next backups remove what the settings no longer keep.")
    else:
        print("Nothing of it is removed until `bedstone retention --accept`.")
    return 0


def _doomed() -> Iterator[dict[str, Any]]:
    """Return what the settings would remove and what is in force keeps, place by place."""
    wanted = retention_held.declared()
    now = retention_held.in_force(wanted)
    places = destinations.load()
    if backup_settings.path().exists():
        yield from _of(places.local, _local, wanted, now)
        for place in (found for found in places.remote if not found.immutable):
            yield from _of(place, _remote, wanted, now)
    if places.point_in_time is not None:
        for place in places.all:
            if place.pgbackrest is not None and not place.immutable:
                yield from _of(place, _log, wanted, now)


def _of(place: Destination, look: Any, wanted: Retention, now: Retention) -> list[dict[str, Any]]:
    try:
        return [
            {"destination": place.name, "error": None, **entry}
            for entry in look(place, wanted, now)
            if entry["names"]
        ]
    except (BedstoneError, OSError, sqlite3.Error) as error:
        text = error.message if isinstance(error, BedstoneError) else str(error)
        return [{"destination": place.name, "error": text, "app": None, "kind": None, "names": []}]


def _local(place: Destination, wanted: Retention, now: Retention) -> Iterator[dict[str, Any]]:
    del place
    settings = backup_settings.load()
    for app in settings.apps:
        found = catalog.backups(settings.directory / app.app)
        known = kept.known(app.app)
        gone: list[set[str]] = [
            {
                backup.name
                for backup in retention.expired(
                    found,
                    app=app.app,
                    now=datetime.now(UTC),
                    rules=kept.rules_of(each),
                    known=known,
                )
            }
            for each in (wanted, now)
        ]
        yield _entry(app.app, "backups", gone)


def _remote(place: Destination, wanted: Retention, now: Retention) -> Iterator[dict[str, Any]]:
    settings = backup_settings.load()
    snapshots = copies.snapshots_of(Repository(place))
    for app in settings.apps:
        there = copies.whole(snapshots, app.app)
        known = kept.known(app.app, place.name)
        gone = [
            {
                remote.name
                for remote in copies.expired(
                    there,
                    app=app.app,
                    settings=settings,
                    known=known,
                    protected={there[0].name} if there else (),
                    rules=kept.rules_of(each),
                )
            }
            for each in (wanted, now)
        ]
        yield _entry(app.app, "copies with their uploads", gone)


def _log(place: Destination, wanted: Retention, now: Retention) -> Iterator[dict[str, Any]]:
    stanza = Stanza(destinations.load())
    backups = stanza.info(place).backups
    fulls = sorted((b.label for b in backups if b.type == FULL), reverse=True)
    gone = [
        set(
            fulls[
                wal_retention.full_backups_to_keep(
                    backups,
                    datetime.now(UTC),
                    keep_days=each.keep_point_in_time_days,
                    keep_full=stanza.settings.keep_full,
                    verified=pgbackrest_run.verified(place),
                ) :
            ]
        )
        for each in (wanted, now)
    ]
    yield _entry("PostgreSQL", "full backups with their log", gone)


def _entry(app: str, kind: str, gone: list[set[str]]) -> dict[str, Any]:
    return {"app": app, "kind": kind, "names": sorted(gone[0] - gone[1], reverse=True)}
