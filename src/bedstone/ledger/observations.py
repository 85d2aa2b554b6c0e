"""Record the newest backup that was seen at each destination.

A sender's exit code does not prove what a destination holds. So a run looks there each hour and
records what it finds. If the destination can't be reached, the last observation stays, and the
record says since when.

"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True)
class Arrival:
    """The last observation of one kind of backup at one destination.

    Attributes:
        destination: where.
        app: whose; "" for what belongs to the whole server.
        kind: ``dump``, ``media``, ``uploads``, ``configuration`` or ``wal``.
        newest: name of the newest one there; None when there is none, or no check has succeeded
            yet.
        newest_at: when that one was begun (of WAL: how far it reaches).
        bytes: its size, if that is known.
        checked_at: time of the last successful check; None when none has succeeded yet.
        problem: what is wrong with it, or why it can't be checked; None when all is well.
        problem_since: since when there is a problem.

    """

    destination: str
    app: str
    kind: str
    newest: str | None
    newest_at: datetime | None
    bytes: int | None
    checked_at: datetime | None
    problem: str | None
    problem_since: datetime | None

    @property
    def unseen(self) -> bool:
        """Return whether the last check failed."""
        return self.problem_since is not None and (
            self.checked_at is None or self.checked_at < self.problem_since
        )


def record(
    destination: str,
    app: str,
    kind: str,
    *,
    newest: str | None,
    newest_at: datetime | None,
    size: int | None = None,
    problem: str | None = None,
) -> None:
    """Record the present observations of a destination.

    Args:
        destination: its name.
        app: whose; "" for what belongs to the whole server.
        kind: one of :data:`KINDS`.
        newest: the newest one there, or None when there is none.
        newest_at: when that one was begun, in UTC.
        size: its bytes.
        problem: what is wrong with what is there.

    """
    now = _now()
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO arrivals (destination, app, kind, newest, newest_at, bytes, checked_at,"
            " problem, problem_since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (destination, app, kind) DO UPDATE SET newest = excluded.newest,"
            " newest_at = excluded.newest_at, bytes = excluded.bytes,"
            " checked_at = excluded.checked_at, problem = excluded.problem,"
            # A problem with what is there dates from its first observation, if all checks since
            # then succeeded.
            " problem_since = CASE WHEN excluded.problem IS NOT NULL AND problem_since IS NOT NULL"
            "  AND checked_at >= problem_since THEN problem_since ELSE excluded.problem_since END",
            (
                destination,
                app,
                kind,
                newest,
                newest_at.astimezone(UTC).isoformat() if newest_at else None,
                size,
                now,
                problem,
                now if problem else None,
            ),
        )


def unseen(destination: str, app: str, kind: str, why: str) -> None:
    """Record that a destination could not be checked, and why.

    What was seen there before stays.
    """
    now = _now()
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO arrivals (destination, app, kind, problem, problem_since)"
            " VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (destination, app, kind) DO UPDATE SET problem = excluded.problem,"
            " problem_since = CASE WHEN problem_since IS NOT NULL"
            "  AND (checked_at IS NULL OR checked_at < problem_since)"
            "  THEN problem_since ELSE excluded.problem_since END",
            (destination, app, kind, why, now),
        )


def unusable(destination: str, app: str, kind: str, why: str) -> None:
    """Record that the data at a destination is unusable at present: another key.

    What was seen there before stays.
    """
    with database.opened() as connection:
        before = last_seen(connection, destination=destination, app=app, kind=kind)
    last = before[0] if before else None
    record(
        destination,
        app,
        kind,
        newest=last.newest if last else None,
        newest_at=last.newest_at if last else None,
        size=last.bytes if last else None,
        problem=why,
    )


def newest_entry(connection: sqlite3.Connection) -> datetime | None:
    """Return the latest moment that this server's clock showed in the last entries, or None.

    Of backups and verifications the last entry counts, not the one with the latest time: one that
    was made while the clock was ahead would stand for years.
    """
    rows = connection.execute(
        "SELECT finished_at FROM backups WHERE id = (SELECT max(id) FROM backups)"
        " UNION ALL SELECT finished_at FROM verifications"
        " WHERE id = (SELECT max(id) FROM verifications WHERE host IS NULL)"
        " UNION ALL SELECT checked_at FROM arrivals UNION ALL SELECT problem_since FROM arrivals"
    )
    moments = (_moment(row[0]) for row in rows)
    return max((moment for moment in moments if moment is not None), default=None)


def last_seen(
    connection: sqlite3.Connection,
    *,
    destination: str | None = None,
    app: str | None = None,
    kind: str | None = None,
) -> list[Arrival]:
    """Return the last observations, optionally of one destination, app or kind."""
    wanted = {"destination": destination, "app": app, "kind": kind}
    rows = connection.execute(
        "SELECT destination, app, kind, newest, newest_at, bytes, checked_at, problem,"
        " problem_since FROM arrivals WHERE (:destination IS NULL OR destination = :destination)"
        " AND (:app IS NULL OR app = :app) AND (:kind IS NULL OR kind = :kind)"
        " ORDER BY destination, app, kind",
        wanted,
    )
    return [
        Arrival(
            destination=row["destination"],
            app=row["app"],
            kind=row["kind"],
            newest=row["newest"],
            newest_at=_moment(row["newest_at"]),
            bytes=row["bytes"],
            checked_at=_moment(row["checked_at"]),
            problem=row["problem"],
            problem_since=_moment(row["problem_since"]),
        )
        for row in rows
    ]


def forget(destination: str, app: str, kind: str) -> None:
    """Remove an observation of a kind that is no longer kept at a destination."""
    with database.opened() as connection:
        connection.execute(
            "DELETE FROM arrivals WHERE destination = ? AND app = ? AND kind = ?",
            (destination, app, kind),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
