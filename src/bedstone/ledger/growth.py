"""Record sizes and free space in the ledger, and compute their trend."""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence


Kind = Literal["database", "free"]


KEPT_DAYS = 400


# The trend is that of so many days, and of at least so many measured ones.
TREND_DAYS = 14


LEAST_DAYS = 3


_SECONDS_A_DAY = 86_400


def record(
    connection: sqlite3.Connection,
    now: datetime,
    sizes: Mapping[str, int],
    free_bytes: Mapping[str, int],
) -> None:
    """Write one night's measurements, and remove those of long ago."""
    moment = now.isoformat(timespec="seconds")
    kinds: tuple[tuple[Kind, Mapping[str, int]], ...] = (("database", sizes), ("free", free_bytes))
    with database.transaction(connection):
        connection.executemany(
            "INSERT OR REPLACE INTO measurements (kind, name, taken_at, bytes) VALUES (?, ?, ?, ?)",
            [(kind, name, moment, size) for kind, found in kinds for name, size in found.items()],
        )
        connection.execute(
            "DELETE FROM measurements WHERE taken_at < ?",
            ((now - timedelta(days=KEPT_DAYS)).isoformat(timespec="seconds"),),
        )


def trend(connection: sqlite3.Connection, kind: Kind, name: str, now: datetime) -> float | None:
    """Return by how many bytes a day something grows (or shrinks), or None: not known yet.

    It is the median of the slopes between any two of the last days' measurements (Theil and
    Sen): one night with a large import, or one clean-up, doesn't change it.
    """
    rows = connection.execute(
        "SELECT taken_at, bytes FROM measurements"
        " WHERE kind = ? AND name = ? AND taken_at BETWEEN ? AND ? ORDER BY taken_at",
        (
            kind,
            name,
            (now - timedelta(days=TREND_DAYS)).isoformat(timespec="seconds"),
            now.isoformat(timespec="seconds"),
        ),
    ).fetchall()
    # The last one of each day.
    days = {row["taken_at"][:10]: (row["taken_at"], row["bytes"]) for row in rows}
    return slope(
        [
            (datetime.fromisoformat(moment).timestamp() / _SECONDS_A_DAY, size)
            for moment, size in days.values()
        ]
    )


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the median slope between any two points (x, y), or None for fewer than three."""
    if len(points) < LEAST_DAYS:
        return None
    return statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in combinations(points, 2)
        if later[0] != earlier[0]
    )


def days_left(free_bytes: int, bytes_a_day: float | None) -> float | None:
    """Return in how many days nothing is free any more, or None when that isn't to be seen.

    Args:
        free_bytes: free now.
        bytes_a_day: the trend of the free bytes.

    """
    if bytes_a_day is None or bytes_a_day >= 0:
        return None
    return free_bytes / -bytes_a_day


def newest_sizes(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """Return the last measurement of each database."""
    return connection.execute(
        "SELECT name, bytes, max(taken_at) AS taken_at FROM measurements"
        " WHERE kind = 'database' GROUP BY name ORDER BY name"
    ).fetchall()
