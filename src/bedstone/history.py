"""The releases in the ledger: which one serves, and how each one went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone import ledger

if TYPE_CHECKING:
    import sqlite3

ID_TIME = "%Y%m%d_%H%M%S"


@dataclass(frozen=True)
class Serving:
    """The release of an app that serves, and its slot of HTTP services."""

    release: str
    slot: str


@dataclass(frozen=True)
class Entry:
    """One release as the ledger has it; times are ISO 8601 in UTC."""

    app: str
    id: str
    version: str
    image: str | None
    fingerprint: str
    state: str
    started_at: str
    finished_at: str | None
    failed_step: str | None
    error: str | None


def now() -> str:
    """Return this moment as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def serving(connection: sqlite3.Connection, app: str) -> Serving | None:
    """Return what serves, or None before the first release."""
    row = connection.execute("SELECT release, slot FROM apps WHERE app = ?", (app,)).fetchone()
    return None if row is None else Serving(row["release"], row["slot"])


def known_apps(connection: sqlite3.Connection) -> list[str]:
    """Return all apps that have a release that serves, sorted."""
    return [row["app"] for row in connection.execute("SELECT app FROM apps ORDER BY app")]


def get(connection: sqlite3.Connection, app: str, release: str) -> Entry | None:
    """Return one release."""
    row = connection.execute(
        "SELECT * FROM releases WHERE app = ? AND id = ?", (app, release)
    ).fetchone()
    return None if row is None else Entry(**dict(row))


def entries(connection: sqlite3.Connection, app: str, *, limit: int = -1) -> list[Entry]:
    """Return an app's releases, the newest first; all by default."""
    rows = connection.execute(
        "SELECT * FROM releases WHERE app = ? ORDER BY id DESC LIMIT ?", (app, limit)
    )
    return [Entry(**dict(row)) for row in rows]


def begin(connection: sqlite3.Connection, app: str, version: str, fingerprint: str) -> str:
    """Record that a release begins and return its new id, which sorts by time."""
    moment = datetime.now(UTC)
    with ledger.transaction(connection):
        # Two in one second can't be: the second one gets the next second.
        last = connection.execute(
            "SELECT max(substr(id, 1, 15)) FROM releases WHERE app = ?", (app,)
        ).fetchone()[0]
        if last is not None:
            earliest = datetime.strptime(last, ID_TIME).replace(tzinfo=UTC) + timedelta(seconds=1)
            moment = max(moment, earliest)
        release = f"{moment.strftime(ID_TIME)}-{version}"
        connection.execute(
            "INSERT INTO releases (app, id, version, fingerprint, state, started_at)"
            " VALUES (?, ?, ?, ?, 'running', ?)",
            (app, release, version, fingerprint, now()),
        )
    return release


def commit(connection: sqlite3.Connection, app: str, release: str, slot: str) -> None:
    """Record that a release serves from now on."""
    with ledger.transaction(connection):
        connection.execute(
            "UPDATE releases SET state = 'succeeded', finished_at = ? WHERE app = ? AND id = ?",
            (now(), app, release),
        )
        connection.execute(
            "INSERT INTO apps VALUES (?, ?, ?) ON CONFLICT (app)"
            " DO UPDATE SET release = excluded.release, slot = excluded.slot",
            (app, release, slot),
        )


def fail(connection: sqlite3.Connection, app: str, release: str, step: str, error: str) -> None:
    """Record that a release failed, at which step and why."""
    connection.execute(
        "UPDATE releases SET state = 'failed', finished_at = ?, failed_step = ?, error = ?"
        " WHERE app = ? AND id = ?",
        (now(), step, error, app, release),
    )


def close_interrupted(connection: sqlite3.Connection, app: str) -> list[str]:
    """Record releases that nobody carries on as failed, and return their ids.

    Call it only with the app's lock held.
    """
    with ledger.transaction(connection):
        rows = connection.execute(
            "SELECT id FROM releases WHERE app = ? AND state = 'running'", (app,)
        ).fetchall()
        for row in rows:
            step = connection.execute(
                "SELECT name FROM steps WHERE app = ? AND release = ?"
                " ORDER BY position DESC LIMIT 1",
                (app, row["id"]),
            ).fetchone()
            connection.execute(
                "UPDATE releases SET state = 'failed', finished_at = ?, failed_step = ?,"
                " error = 'interrupted: bedstone or the server was killed'"
                " WHERE app = ? AND id = ?",
                (now(), step["name"] if step else None, app, row["id"]),
            )
    return [row["id"] for row in rows]


def set_image(connection: sqlite3.Connection, app: str, release: str, image: str) -> None:
    """Record the image of a release."""
    connection.execute(
        "UPDATE releases SET image = ? WHERE app = ? AND id = ?", (image, app, release)
    )


def step(
    connection: sqlite3.Connection,
    app: str,
    release: str,
    position: int,
    name: str,
    state: str,
    seconds: float | None = None,
) -> None:
    """Record the state of a step: ``running``, ``done``, ``failed`` or ``undone``."""
    connection.execute(
        "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (app, release, position) DO UPDATE SET state = excluded.state,"
        " seconds = coalesce(excluded.seconds, seconds)",
        (app, release, position, name, state, seconds),
    )
