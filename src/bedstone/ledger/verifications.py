"""Record every verification in the ledger, by app, part of a backup and destination.

The age of an app's last verification is measured by the record of success, never by a unit's exit
code: a timer that doesn't run has none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3


LOCAL = "local"

_COLUMNS = (
    "app, kind, backup, destination, state, started_at, finished_at, seconds, rows, bytes, error,"
    " host"
)


@dataclass(frozen=True)
class Verification:
    """One attempt; times are ISO 8601 in UTC.

    Attributes:
        app: whose backup; "" for the whole cluster.
        kind: "dump", "media" or "wal".
        backup: its name (pgBackRest's label of WAL), or None when there was none to verify.
        destination: where it was fetched from ("local": the directory of backups).
        state: "succeeded", "failed" (it doesn't hold what it should) or "prevented" (no disk space,
            no time, no backup: it has no result).
        started_at: when.
        finished_at: when.
        seconds: how long it took.
        rows: rows that were restored.
        bytes: bytes of files that were unpacked.
        error: what was wrong.
        host: the host that has tried it; None for this one.

    """

    app: str
    kind: str
    backup: str | None
    destination: str
    state: str
    started_at: str
    finished_at: str
    seconds: float
    rows: int | None = None
    bytes: int | None = None
    error: str | None = None
    host: str | None = None

    @property
    def age_seconds(self) -> float:
        """Seconds since it ended; negative when that is in the future by today's clock."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.finished_at)).total_seconds()


def record(entry: Verification) -> None:
    """Write one attempt down."""
    with database.opened() as connection:
        insert(connection, entry)


def insert(connection: sqlite3.Connection, entry: Verification) -> None:
    """Write one attempt down by a connection to the ledger."""
    connection.execute(
        "INSERT INTO verifications (app, kind, backup, destination, state, started_at,"
        " finished_at, seconds, rows, bytes, error, host)"
        " VALUES (:app, :kind, :backup, :destination, :state, :started_at,"
        " :finished_at, :seconds, :rows, :bytes, :error, :host)",
        asdict(entry),
    )


def newest(connection: sqlite3.Connection, number: int) -> list[Verification]:
    """Return so many of the newest attempts, of all apps, the oldest of them first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM verifications ORDER BY id DESC LIMIT ?",  # noqa: S608
        (number,),
    )
    return [Verification(**dict(row)) for row in rows][::-1]


def of_app(connection: sqlite3.Connection, app: str) -> list[Verification]:
    """Return an app's attempts, the newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM verifications WHERE app = ? ORDER BY id DESC",  # noqa: S608
        (app,),
    )
    return [Verification(**dict(row)) for row in rows]


def of_backup(
    attempts: list[Verification], backup: str, kinds: set[str], destination: str = LOCAL
) -> Verification | None:
    """Return what is known of one backup: its last failure, else the oldest of its last successes.

    Args:
        attempts: of its app, the newest first.
        backup: its name.
        kinds: the parts it has; until all of them were verified, it isn't.
        destination: where it is kept.

    """
    last: dict[str, Verification] = {}
    for attempt in attempts:
        same = (attempt.backup, attempt.destination) == (backup, destination)
        # A prevented verification has no result.
        if same and attempt.kind in kinds and attempt.state != "prevented":
            last.setdefault(attempt.kind, attempt)
    if failed := [attempt for attempt in last.values() if attempt.state == "failed"]:
        return failed[0]
    if set(last) != kinds:
        return None
    return min(last.values(), key=lambda attempt: attempt.finished_at, default=None)


def passed(
    connection: sqlite3.Connection, app: str, destination: str | None = None
) -> dict[str, set[str]]:
    """Return which backups passed their last verification: kind ("dump", "media") -> names.

    Args:
        connection: of the ledger.
        app: whose.
        destination: where they were verified; anywhere by default.

    """
    rows = connection.execute(
        "SELECT kind, backup FROM verifications WHERE id IN ("
        "  SELECT max(id) FROM verifications"
        "  WHERE app = :app AND backup IS NOT NULL AND state <> 'prevented'"
        "  AND (:destination IS NULL OR destination = :destination)"
        "  GROUP BY kind, backup, destination"
        ") AND state = 'succeeded'",
        {"app": app, "destination": destination},
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["kind"], set()).add(row["backup"])
    return found


def is_known(connection: sqlite3.Connection, attempt: Verification) -> bool:
    """Return whether an attempt of another host is in the ledger."""
    row = connection.execute(
        "SELECT 1 FROM verifications WHERE app = :app AND kind = :kind"
        " AND destination = :destination AND started_at = :started_at AND host = :host",
        asdict(attempt),
    ).fetchone()
    return row is not None


def read_reports(connection: sqlite3.Connection) -> set[str]:
    """Return the snapshots of other hosts' reports that were read."""
    rows = connection.execute("SELECT snapshot FROM verification_marks")
    return {str(row["snapshot"]) for row in rows}


def set_report_read(connection: sqlite3.Connection, snapshot: str) -> None:
    """Record that another host's report was read."""
    connection.execute(
        "INSERT OR REPLACE INTO verification_marks (snapshot, read_at) VALUES (?, ?)",
        (snapshot, datetime.now(UTC).isoformat()),
    )


def newest_of_each(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """Return the last success and the last other attempt of each app, kind and destination."""
    return connection.execute(
        "SELECT id, app, kind, destination, state, finished_at, seconds FROM verifications"
        " WHERE id IN (SELECT max(id) FROM verifications"
        "  GROUP BY app, kind, destination, state = 'succeeded')"
        " ORDER BY destination, app, kind, id"
    ).fetchall()
