"""Write the metrics of this server's apps and backups.

All of it comes from the ledger and from files: nothing is asked that could be busy, hang or be
down, so the metrics of a server that is in trouble are there too. A part that fails doesn't affect
the others and is reported by ``bedstone_collector_success``.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone import __version__, watch
from bedstone.apps import config, maintenance
from bedstone.backup import catalog, manifest, status, verify_settings
from bedstone.backup import settings as backup_settings
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import backups as backups_history
from bedstone.ledger import copies as copies_history
from bedstone.ledger import database, releases
from bedstone.ledger import growth as ledger_growth
from bedstone.ledger import verifications as verify_history
from bedstone.ledger.kinds import DUMP, MEDIA, WAL
from bedstone.offsite import freshness
from bedstone.status import growth, operations
from bedstone.status.prometheus import Family
from bedstone.storage import destinations
from bedstone.verify import status as verifications
from bedstone.watch.machine import LEDGER_ALARM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Of live metrics, too: a metric has one text.
COLLECTOR_HELP = "Whether a part of these metrics could be found out."
_SECONDS_A_DAY = 86_400
_LAST_OPERATIONS = 1
_ARCHIVE_STATUS = "*/*/pg_wal/archive_status"


class Collector:
    """Gathers all families; each part fills its own."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)
        self.errors: list[str] = []
        self._families: dict[str, Family] = {}

    def gather(self) -> list[Family]:
        """Return every metric of this server."""
        self._add("bedstone_build_info", "The program's version.", 1, version=__version__)
        parts: dict[str, Callable[[], None]] = {
            "releases": self._releases,
            "backups": self._backups,
            "verifications": self._verifications,
            "arrivals": self._arrivals,
            "wal": self._wal,
            "growth": self._growth,
            "alarms": self._alarms,
            "problems": self._problems,
        }
        for name, part in parts.items():
            good = self._attempt(name, part)
            self._add(
                "bedstone_collector_success",
                COLLECTOR_HELP,
                good,
                collector=name,
            )
        self._add(
            "bedstone_metrics_timestamp_seconds",
            "When these metrics were gathered.",
            self.now.timestamp(),
        )
        return list(self._families.values())

    def _attempt(self, name: str, part: Callable[[], None]) -> bool:
        try:
            part()
        except (BedstoneError, sqlite3.Error, OSError, ValueError) as error:
            self.errors.append(f"{name}: {error}")
            return False
        return True

    def _add(self, name: str, text: str, value: float | None, **labels: str | None) -> None:
        self._families.setdefault(name, Family(name, text)).add(value, **labels)

    # --- releases ----------------------------------------------------------------------

    def _releases(self) -> None:
        with database.opened() as connection:
            for app in _apps(connection):
                self._release(connection, app)

    def _release(self, connection: sqlite3.Connection, app: str) -> None:
        serving = releases.serving(connection, app)
        if serving is not None:
            entry = releases.get(connection, app, serving.release)
            self._add(
                "bedstone_release_serving_info",
                "The release that serves.",
                1,
                app=app,
                release=serving.release,
                version=entry.version if entry else None,
                slot=serving.slot,
            )
            self._add(
                "bedstone_release_serving_since_timestamp_seconds",
                "When the release that serves took over.",
                _seconds(operations.serving_since(connection, app, serving)),
                app=app,
            )
        shown = operations.last(connection, app, _LAST_OPERATIONS)
        for operation in shown:
            self._add(
                "bedstone_operation_failed",
                "Whether the last release, rollback or restart failed, or was killed.",
                bool(operations.problems([operation], operations.running(app))),
                app=app,
            )
            self._add(
                "bedstone_operation_finished_timestamp_seconds",
                "When the last release, rollback or restart ended.",
                _seconds(operation["finished_at"]),
                app=app,
                kind=operation["kind"],
                state=operation["state"],
            )
        self._add(
            "bedstone_maintenance",
            "Whether visitors get the page of maintenance.",
            maintenance.since(app) is not None,
            app=app,
        )

    # --- backups -----------------------------------------------------------------------

    def _backups(self) -> None:
        """Report the backups on this server: from the directory, and failures from the ledger."""
        if not backup_settings.path().exists():
            return
        settings = backup_settings.load()
        with database.opened() as connection:
            for entry in settings.apps:
                kinds = _kinds(entry)
                newest = catalog.newest(settings.directory / entry.app)
                if newest is not None and newest.manifest is not None:
                    made = newest.manifest
                    for kind in manifest.kinds(made):
                        media = made.media.archive if made.media else None
                        size = sum(
                            file.bytes
                            for path, file in made.files.items()
                            if (path == media) == (kind == MEDIA)
                        )
                        self._arrived(entry.app, kind, destinations.LOCAL, made.started, size)
                self._failures(connection, entry.app, kinds)

    def _failures(self, connection: sqlite3.Connection, app: str, kinds: Sequence[str]) -> None:
        state = backups_history.last_state(connection, app)
        for kind in kinds if state else ():
            self._failed(app, kind, destinations.LOCAL, failed=state == "failed")

    def _arrivals(self) -> None:
        """Report the last observations at the destinations, and how the last copy there ended."""
        known = destinations.load()
        for item in _expected():
            labels = {"app": item.app, "kind": item.kind, "destination": item.destination}
            if (seen := item.seen) is not None:
                self._arrived(item.app, item.kind, item.destination, seen.newest_at, seen.bytes)
                self._add(
                    "bedstone_backup_checked_timestamp_seconds",
                    "When somebody last could look what lies at a destination.",
                    seen.checked_at.timestamp() if seen.checked_at else None,
                    **labels,
                )
            self._add(
                "bedstone_backup_problem",
                "Whether what lies at a destination is old or wrong, or nobody can look.",
                item.problem is not None,
                **labels,
            )
        with database.opened() as connection:
            copies = copies_history.newest_of_each(connection)
        remote = {place.name for place in known.remote}
        for row in copies:
            if row["destination"] in remote:
                self._failed(
                    row["app"], row["kind"], row["destination"], failed=row["state"] == "failed"
                )

    def _arrived(
        self, app: str, kind: str, destination: str, moment: datetime | None, size: int | None
    ) -> None:
        labels = {"app": app, "kind": kind, "destination": destination}
        name = "bedstone_backup_last_success_timestamp_seconds"
        family = self._families.get(name)
        if family is not None and any(of == labels for of, _ in family.samples):
            # Of this server's own disk it was just said.
            return
        self._add(
            name,
            "When the newest complete backup there was begun; of WAL, the moment it reaches.",
            moment.timestamp() if moment else None,
            **labels,
        )
        self._add(
            "bedstone_backup_last_size_bytes",
            "Size of the newest complete backup there.",
            size,
            **labels,
        )

    def _failed(self, app: str, kind: str, destination: str, *, failed: bool) -> None:
        self._add(
            "bedstone_backup_failed",
            "Whether the last attempt to back up failed.",
            failed,
            app=app,
            kind=kind,
            destination=destination,
        )

    def _verifications(self) -> None:
        if not backup_settings.path().exists():
            return
        # An app or a destination that is gone is no longer verified, and that is no problem.
        apps = {"", *(entry.app for entry in backup_settings.load().apps)}
        places = {place.name for place in verifications.places_of(verify_settings.load())}
        with database.opened() as connection:
            rows = verify_history.newest_of_each(connection)
        last = {}
        for row in rows:
            labels = {name: row[name] for name in ("app", "kind", "destination")}
            if row["app"] not in apps or row["destination"] not in places:
                continue
            last[tuple(labels.values())] = row
            if row["state"] != "succeeded":
                continue
            self._add(
                "bedstone_backup_verified_timestamp_seconds",
                "When a backup was last restored on trial and held what it should.",
                _seconds(row["finished_at"]),
                **labels,
            )
            self._add(
                "bedstone_backup_verification_duration_seconds",
                "How long that took.",
                row["seconds"],
                **labels,
            )
        for row in last.values():
            self._add(
                "bedstone_backup_verification_failed",
                "Whether the last verification failed, or came to nothing.",
                row["state"] != "succeeded",
                **{name: row[name] for name in ("app", "kind", "destination")},
            )

    def _wal(self) -> None:
        """Report how much WAL waits to be archived: PostgreSQL marks each segment by a file."""
        for directory in sorted(paths.host("/var/lib/postgresql").glob(_ARCHIVE_STATUS)):
            marks = [path for path in directory.iterdir() if path.suffix == ".ready"]
            cluster = "/".join(directory.parts[-4:-2])
            self._add(
                "bedstone_wal_waiting_segments",
                "Finished segments of WAL that wait to be archived.",
                len(marks),
                cluster=cluster,
            )
            self._add(
                "bedstone_wal_waiting_since_timestamp_seconds",
                "Since when the oldest of them waits.",
                min((moment for path in marks if (moment := _modified(path))), default=None),
                cluster=cluster,
            )

    # --- alarms ------------------------------------------------------------------------

    def _seen(self) -> list[dict[str, str]]:
        """Return what the last hourly look has found."""
        seen = [alarm.as_json() for alarm in watch.stale(self.now)]
        return seen + list((watch.last() or {}).get("alarms", ()))

    def _alarms(self) -> None:
        """Report the results of the last hourly check, and its age."""
        for alarm in self._seen():
            self._add(
                "bedstone_alarm",
                "What needs attention: severity is warning or red.",
                1,
                alarm=alarm["name"],
                severity=alarm["severity"],
            )
        found = watch.last()
        if found is None:
            return
        self._add(
            "bedstone_alarms_timestamp_seconds",
            "Time of the last look for alarms.",
            _seconds(found["at"]),
        )
        for entry in found["certificates"]:
            labels = {"place": entry["place"], "subject": entry["subject"]}
            self._add(
                "bedstone_certificate_not_before_timestamp_seconds",
                "From when a certificate is valid.",
                _seconds(entry["starts_at"]),
                **labels,
            )
            self._add(
                "bedstone_certificate_not_after_timestamp_seconds",
                "When a certificate ends.",
                _seconds(entry["ends_at"]),
                **labels,
            )

    # --- growth and problems -----------------------------------------------------------

    def _growth(self) -> None:
        with database.opened() as connection:
            rows = ledger_growth.newest_sizes(connection)
            # A database that is gone is measured no more.
            newest = max((row["taken_at"] for row in rows), default="")
            for row in rows:
                if row["taken_at"] < newest:
                    continue
                pace = ledger_growth.trend(connection, "database", row["name"], self.now)
                self._add(
                    "bedstone_database_size_bytes",
                    "Size of a database when it was last measured.",
                    row["bytes"],
                    database=row["name"],
                )
                self._add(
                    "bedstone_database_growth_bytes_per_second",
                    "How fast a database grows, by the last two weeks.",
                    None if pace is None else pace / _SECONDS_A_DAY,
                    database=row["name"],
                )
            if backup_settings.path().exists():
                for path, size in growth.free(backup_settings.load()).items():
                    self._disk(connection, path, size)

    def _disk(self, connection: sqlite3.Connection, path: str, free: int) -> None:
        self._add("bedstone_disk_free_bytes", "Room on a disk that holds data.", free, path=path)
        left = ledger_growth.days_left(
            free, ledger_growth.trend(connection, "free", path, self.now)
        )
        self._add(
            "bedstone_disk_full_in_seconds",
            "In what time a disk will be full, by the last two weeks; missing: not to be seen.",
            None if left is None else left * _SECONDS_A_DAY,
            path=path,
        )

    def _problems(self) -> None:
        """Count what `bedstone status` would show in red, as far as ledger and files have it."""
        counts: dict[str, int] = {
            # The ledger is looked at now.
            "": sum(
                alarm["severity"] == "red" and alarm["name"] != LEDGER_ALARM
                for alarm in self._seen()
            )
        }
        counts[""] += database.problem() is not None
        with database.opened() as connection:
            for app in _apps(connection):
                first = operations.first_served(connection, app)
                last = operations.last(connection, app, _LAST_OPERATIONS)
                backup, verification = (
                    status.app_status(app, first),
                    verifications.app_status(app, first),
                )
                counts[app] = len(operations.problems(last, operations.running(app))) + sum(
                    bool(found and found["problem"]) for found in (backup, verification)
                )
        counts[""] += len(verifications.wal_problems())
        for item in _expected():
            # What lies on this server was counted, but for its WAL.
            if item.destination != destinations.LOCAL or item.kind == WAL:
                counts[item.app] = counts.get(item.app, 0) + (item.problem is not None)
        for app, count in counts.items():
            self._add(
                "bedstone_problems",
                "What needs attention, of an app or (without one) of the server.",
                count,
                app=app,
            )


def _expected() -> list[freshness.Item]:
    """Return all that should lie at the destinations; what is there no longer is no news."""
    if not backup_settings.path().exists():
        return []
    return freshness.items(backup_settings.load(), destinations.load())


def _apps(connection: sqlite3.Connection) -> list[str]:
    return sorted({*config.declared(), *releases.known_apps(connection)})


def _kinds(entry: backup_settings.App) -> list[str]:
    found = {DUMP: entry.database, MEDIA: entry.media}
    return [kind for kind, there in found.items() if there]


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        # Archived in this very moment.
        return None
