"""Read and write the ledger's releases and operations of an app."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3

ID_TIME = "%Y%m%d_%H%M%S"
KEPT_RELEASES = 10
INTERRUPTED = "interrupted: bedstone or the server was killed"

Kind = Literal["release", "rollback", "restart"]


@dataclass(frozen=True)
class Serving:
    """The release of an app that serves, and its slot of HTTP services."""

    release: str
    slot: str


@dataclass(frozen=True)
class Entry:
    """One release as the ledger has it; times are ISO 8601 in UTC.

    Attributes:
        fingerprint: digest of all that it is made of.
        declared: the same without the values of secrets: what the operator declared.
        build: digest of what its image was built from, or None when it wasn't built.

    """

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
    declared: str | None = None
    build: str | None = None


@dataclass(frozen=True)
class Operation:
    """A release, rollback or restart, and how it went; times are ISO 8601 in UTC.

    ``release`` is the one that is to serve, ``previous`` the one that served before.
    """

    id: int
    app: str
    kind: str
    release: str
    previous: str | None
    state: str
    caller: str | None
    started_at: str
    finished_at: str | None
    failed_step: str | None
    error: str | None
    hint: str | None
    details: str | None
    restore_point: str | None


@dataclass(frozen=True)
class StepRow:
    """One step of an operation: ``running``, ``done``, ``failed`` or ``undone``."""

    position: int
    name: str
    state: str
    seconds: float | None
    said: str | None


@dataclass(frozen=True)
class NewRelease:
    """The facts of a release before it begins; see :class:`Entry`."""

    version: str
    fingerprint: str
    declared: str | None = None
    build: str | None = None


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


def built(connection: sqlite3.Connection, app: str, build: str) -> str | None:
    """Return the newest image of an app that was built from the same, or None."""
    row = connection.execute(
        "SELECT image FROM releases WHERE app = ? AND build = ? AND image IS NOT NULL"
        " ORDER BY id DESC LIMIT 1",
        (app, build),
    ).fetchone()
    return None if row is None else str(row["image"])


def kept(connection: sqlite3.Connection, app: str) -> list[Entry]:
    """Return the releases that can serve again, the newest first: ten, and the one that serves."""
    current = serving(connection, app)
    succeeded = [entry for entry in entries(connection, app) if entry.state == "succeeded"]
    newest = succeeded[:KEPT_RELEASES]
    return newest + [
        entry
        for entry in succeeded[KEPT_RELEASES:]
        if current is not None and entry.id == current.release
    ]


def restore_points(connection: sqlite3.Connection, app: str) -> set[str]:
    """Return the backups made before operations on the releases that are kept."""
    releases = {entry.id for entry in kept(connection, app)}
    return {
        operation.restore_point
        for operation in operations(connection, app)
        if operation.restore_point and {operation.release, operation.previous} & releases
    }


def begin(
    connection: sqlite3.Connection, app: str, new: NewRelease, caller: str | None = None
) -> tuple[str, int]:
    """Record that a release begins and return its new id, which sorts by time, and its operation's.

    Args:
        connection: of the ledger.
        app: whose release it is.
        new: what is known of it.
        caller: the name of the caller.

    """
    moment = datetime.now(UTC)
    with database.transaction(connection):
        # Two in one second can't be: the second one gets the next second.
        last = connection.execute(
            "SELECT max(substr(id, 1, 15)) FROM releases WHERE app = ?", (app,)
        ).fetchone()[0]
        if last is not None:
            earliest = datetime.strptime(last, ID_TIME).replace(tzinfo=UTC) + timedelta(seconds=1)
            moment = max(moment, earliest)
        release = f"{moment.strftime(ID_TIME)}-{new.version}"
        connection.execute(
            "INSERT INTO releases"
            " (app, id, version, fingerprint, declared, build, state, started_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'running', ?)",
            (app, release, new.version, new.fingerprint, new.declared, new.build, now()),
        )
        return release, _insert(connection, app, "release", release, caller)


def begin_operation(
    connection: sqlite3.Connection, app: str, kind: Kind, release: str, caller: str | None = None
) -> int:
    """Record that a release which is there is to serve (again), and return the operation's id."""
    with database.transaction(connection):
        return _insert(connection, app, kind, release, caller)


def _insert(
    connection: sqlite3.Connection, app: str, kind: Kind, release: str, caller: str | None
) -> int:
    previous = serving(connection, app)
    cursor = connection.execute(
        "INSERT INTO operations (app, kind, release, previous, state, caller, started_at)"
        " VALUES (?, ?, ?, ?, 'running', ?, ?)",
        (app, kind, release, previous.release if previous else None, caller, now()),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def commit(
    connection: sqlite3.Connection, app: str, release: str, slot: str, operation: int
) -> None:
    """Record that a release serves from now on."""
    with database.transaction(connection):
        moment = now()
        connection.execute(
            "UPDATE releases SET state = 'succeeded', finished_at = ?"
            " WHERE app = ? AND id = ? AND state = 'running'",
            (moment, app, release),
        )
        connection.execute(
            "UPDATE operations SET state = 'succeeded', finished_at = ? WHERE id = ?",
            (moment, operation),
        )
        connection.execute(
            "INSERT INTO apps VALUES (?, ?, ?) ON CONFLICT (app)"
            " DO UPDATE SET release = excluded.release, slot = excluded.slot",
            (app, release, slot),
        )


def fail(
    connection: sqlite3.Connection,
    operation: int,
    step: str | None,
    error: str,
    *,
    hint: str | None = None,
    details: str = "",
) -> None:
    """Record that an operation failed, at which step and why."""
    with database.transaction(connection):
        _fail(connection, operation, step, error, (hint, details))


def _fail(
    connection: sqlite3.Connection,
    operation: int,
    step: str | None,
    error: str,
    more: tuple[str | None, str] = (None, ""),
) -> None:
    moment = now()
    connection.execute(
        "UPDATE operations SET state = 'failed', finished_at = ?, failed_step = ?, error = ?,"
        " hint = ?, details = ? WHERE id = ?",
        (moment, step, error, *more, operation),
    )
    connection.execute(
        "UPDATE releases SET state = 'failed', finished_at = ?, failed_step = ?, error = ?"
        " WHERE state = 'running'"
        " AND (app, id) = (SELECT app, release FROM operations WHERE id = ?)",
        (moment, step, error, operation),
    )


def close_interrupted(connection: sqlite3.Connection, app: str) -> list[Operation]:
    """Record operations and steps whose process is gone as failed; return the operations.

    Call it only with the app's lock held.
    """
    with database.transaction(connection):
        rows = connection.execute(
            "SELECT * FROM operations WHERE app = ? AND state = 'running'", (app,)
        ).fetchall()
        for row in rows:
            step = connection.execute(
                "SELECT name FROM operation_steps WHERE operation = ?"
                " ORDER BY position DESC LIMIT 1",
                (row["id"],),
            ).fetchone()
            _fail(connection, row["id"], step["name"] if step else None, INTERRUPTED)
        # Also those after the moment of record, whose operation has succeeded.
        connection.execute(
            "UPDATE operation_steps SET state = 'failed', said = coalesce(said, ?)"
            " WHERE state = 'running'"
            " AND operation IN (SELECT id FROM operations WHERE app = ?)",
            (INTERRUPTED, app),
        )
    return [Operation(**dict(row)) for row in rows]


def operations(connection: sqlite3.Connection, app: str, *, limit: int = -1) -> list[Operation]:
    """Return what was done with an app, the newest first; all by default."""
    rows = connection.execute(
        "SELECT * FROM operations WHERE app = ? ORDER BY id DESC LIMIT ?", (app, limit)
    )
    return [Operation(**dict(row)) for row in rows]


def steps(connection: sqlite3.Connection, operation: int) -> list[StepRow]:
    """Return the steps of an operation in their order."""
    rows = connection.execute(
        "SELECT position, name, state, seconds, said FROM operation_steps"
        " WHERE operation = ? ORDER BY position",
        (operation,),
    )
    return [StepRow(**dict(row)) for row in rows]


def set_image(connection: sqlite3.Connection, app: str, release: str, image: str) -> None:
    """Record the image of a release."""
    connection.execute(
        "UPDATE releases SET image = ? WHERE app = ? AND id = ?", (image, app, release)
    )


def set_restore_point(connection: sqlite3.Connection, operation: int, name: str) -> None:
    """Record the backup that was made before an operation changed the schema."""
    connection.execute("UPDATE operations SET restore_point = ? WHERE id = ?", (name, operation))


def step(connection: sqlite3.Connection, operation: int, row: StepRow) -> None:
    """Record the state of a step; without new seconds and words, the previous ones stay."""
    connection.execute(
        "INSERT INTO operation_steps (operation, position, name, state, seconds, said)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (operation, position) DO UPDATE SET state = excluded.state,"
        " seconds = coalesce(excluded.seconds, seconds), said = coalesce(excluded.said, said)",
        (operation, row.position, row.name, row.state, row.seconds, row.said),
    )


def forget_serving(connection: sqlite3.Connection, app: str) -> None:
    """Record that no release of an app serves."""
    connection.execute("DELETE FROM apps WHERE app = ?", (app,))
