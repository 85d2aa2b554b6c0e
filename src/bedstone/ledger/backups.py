"""Record every attempt of a backup in the ledger, failed ones too.

What can be restored is what the catalogue finds on the disk; the record holds the attempts, so that
a backup that has failed for days is noticed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


def succeeded(app: str, path: Path, label: str | None, started: datetime, size: int) -> None:
    """Record a finished backup of ``size`` bytes."""
    _record(app, str(path), label, started, "succeeded", size=size)


def failed(app: str, label: str | None, started: datetime, error: str) -> None:
    """Record an attempt that failed, and why."""
    _record(app, None, label, started, "failed", error=error)


def served_release(app: str) -> str | None:
    """Return the id of the release that serves an app, or None."""
    with database.opened() as connection:
        row = connection.execute("SELECT release FROM apps WHERE app = ?", (app,)).fetchone()
    return str(row["release"]) if row else None


def last_failure(app: str) -> tuple[datetime, str] | None:
    """Return when and why the last attempt failed, or None when it succeeded."""
    with database.opened() as connection:
        row = connection.execute(
            # Not by its time: one that was made while the clock was ahead would stay the last.
            "SELECT state, started_at, error FROM backups WHERE app = ? ORDER BY id DESC LIMIT 1",
            (app,),
        ).fetchone()
    if row is None or row["state"] == "succeeded":
        return None
    return datetime.fromisoformat(row["started_at"]), str(row["error"])


def _record(
    app: str,
    path: str | None,
    label: str | None,
    started: datetime,
    state: str,
    *,
    size: int | None = None,
    error: str | None = None,
) -> None:
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO backups (app, path, label, state, started_at, finished_at, bytes, error)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                app,
                path,
                label,
                state,
                started.isoformat(),
                datetime.now(UTC).isoformat(),
                size,
                error,
            ),
        )


def first_success(connection: sqlite3.Connection) -> str | None:
    """Return when a backup of any app first succeeded; None for never."""
    found = connection.execute(
        "SELECT min(finished_at) FROM backups WHERE state = 'succeeded'"
    ).fetchone()[0]
    return str(found) if found else None


def last_state(connection: sqlite3.Connection, app: str) -> str | None:
    """Return how an app's last attempt ended; None when there was none."""
    row = connection.execute(
        "SELECT state FROM backups WHERE app = ? ORDER BY id DESC LIMIT 1", (app,)
    ).fetchone()
    return str(row["state"]) if row else None
