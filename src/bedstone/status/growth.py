"""Record the size of the databases and the free space of the disks, once a night.

Kept in the ledger, so that "full in about twenty days" can be reported in time.
"""

from __future__ import annotations

import os
import statistics
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from bedstone.core import paths
from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from bedstone.backup.settings import Settings
    from bedstone.postgres.server import Server

Kind = Literal["database", "free"]

KEPT_DAYS = 400
# The trend is that of so many days, and of at least so many measured ones.
TREND_DAYS = 14
LEAST_DAYS = 3

_SECONDS_A_DAY = 86_400

_SIZES = """
SELECT json_build_array(datname, pg_database_size(oid)) FROM pg_database
 WHERE NOT datistemplate ORDER BY datname;
"""


def take(settings: Settings, server: Server) -> None:
    """Measure, and record it in the ledger.

    Raises:
        BedstoneError: PostgreSQL doesn't answer, or the ledger can't be opened.
        sqlite3.Error: the ledger can't be written.

    """
    sizes = dict(server.rows(_SIZES)) if any(app.database for app in settings.apps) else {}
    with database.opened() as connection:
        record(connection, datetime.now(UTC), sizes, free(settings))


def free(settings: Settings) -> dict[str, int]:
    """Return the free bytes of each file system that counts, by the first path that is on it."""
    places = (paths.host("/var/lib/docker"), paths.host("/var/lib/postgresql"), settings.directory)
    found: dict[int, tuple[str, int]] = {}
    for path in places:
        try:
            device, status = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue
        found.setdefault(device, (str(path), status.f_bavail * status.f_frsize))
    return dict(found.values())


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
