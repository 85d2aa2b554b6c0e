"""Record every attempt to copy a backup to a destination in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True)
class Copy:
    """One attempt; times are ISO 8601 in UTC.

    Attributes:
        app: whose; "" for what belongs to the whole server.
        kind: ``dump`` (with its uploads), ``uploads``, ``configuration`` or ``image``.
        backup: the backup's name, or a release's id.
        destination: where to.
        state: ``succeeded`` or ``failed``.
        snapshot: its id there.
        started_at: when.
        finished_at: when.
        bytes: size of what was sent, before it was deduplicated.
        error: why it failed.

    """

    app: str
    kind: str
    backup: str | None
    destination: str
    state: str
    snapshot: str | None
    started_at: str
    finished_at: str
    bytes: int | None = None
    error: str | None = None


def record(
    app: str,
    kind: str,
    backup: str | None,
    destination: str,
    started: datetime,
    *,
    snapshot: str | None = None,
    size: int | None = None,
    error: str | None = None,
) -> Copy:
    """Write one attempt down, and return it; it failed if there is an error."""
    entry = Copy(
        app,
        kind,
        backup,
        destination,
        "failed" if error else "succeeded",
        snapshot,
        started.isoformat(),
        datetime.now(UTC).isoformat(),
        size,
        error,
    )
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO copies (app, kind, backup, destination, state, snapshot, started_at,"
            " finished_at, bytes, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.app,
                entry.kind,
                entry.backup,
                entry.destination,
                entry.state,
                entry.snapshot,
                entry.started_at,
                entry.finished_at,
                entry.bytes,
                entry.error,
            ),
        )
    return entry


def last(connection: sqlite3.Connection, destination: str) -> Copy | None:
    """Return the last attempt of all to bring something to a destination."""
    row = connection.execute(
        "SELECT app, kind, backup, destination, state, snapshot, started_at, finished_at, bytes,"
        " error FROM copies WHERE destination = ? ORDER BY id DESC LIMIT 1",
        (destination,),
    ).fetchone()
    return Copy(**dict(row)) if row else None


def asked_since(moment: datetime) -> bool:
    """Return whether something that is to be copied has come into being since a moment.

    That is a backup, or a release, rollback or restart of any app: each asks for a copy when it
    has ended.
    """
    with database.opened() as connection:
        row = connection.execute(
            "SELECT max(finished_at) AS last FROM ("
            " SELECT finished_at FROM operations WHERE state = 'succeeded'"
            " UNION ALL SELECT finished_at FROM backups WHERE state = 'succeeded')"
        ).fetchone()
    return row["last"] is not None and datetime.fromisoformat(row["last"]) >= moment


def last_arrival(destination: str) -> str | None:
    """Return when something was last copied to a destination, as ISO 8601; None for never."""
    with database.opened() as connection:
        row = connection.execute(
            "SELECT max(finished_at) AS last FROM copies"
            " WHERE destination = ? AND state = 'succeeded'",
            (destination,),
        ).fetchone()
    return str(row["last"]) if row["last"] else None


def first_arrival(connection: sqlite3.Connection, app: str, destination: str) -> str | None:
    """Return when something of an app was first copied to a destination; None for never."""
    found = connection.execute(
        "SELECT min(finished_at) FROM copies WHERE destination = ? AND app = ?"
        " AND state = 'succeeded'",
        (destination, app),
    ).fetchone()[0]
    return str(found) if found else None


def has_arrived(connection: sqlite3.Connection, app: str, kind: str, destination: str) -> bool:
    """Return whether this server has ever copied something of an app and a kind there."""
    found = connection.execute(
        "SELECT 1 FROM copies WHERE app = ? AND kind = ? AND destination = ?"
        " AND state = 'succeeded' LIMIT 1",
        (app, kind, destination),
    ).fetchone()
    return found is not None


def last_state(connection: sqlite3.Connection, app: str, kind: str, destination: str) -> str | None:
    """Return how the last recorded attempt of an app and a kind ended; None: there was none."""
    found = connection.execute(
        "SELECT state FROM copies WHERE app = ? AND kind = ? AND destination = ?"
        " ORDER BY id DESC LIMIT 1",
        (app, kind, destination),
    ).fetchone()
    return str(found["state"]) if found else None


def newest_of_each(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """Return the last attempt of each app, kind and destination."""
    return connection.execute(
        "SELECT app, kind, destination, state FROM copies WHERE id IN ("
        " SELECT max(id) FROM copies GROUP BY app, kind, destination)"
        " ORDER BY destination, app, kind"
    ).fetchall()
