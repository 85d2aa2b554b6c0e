"""Check that clients of PgBouncer don't wait for a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.notify.alarms import Alarm
from bedstone.postgres import pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from bedstone.postgres.pool import Pool

# A transaction of a request is much shorter: all connections are held by long ones.
WAIT_SECONDS = 2.0
_RED_SECONDS = 20.0


def gather() -> list[Pool]:
    """Return the pools; none on a server without role pgbouncer."""
    return pool.pools()


def judge(found: Iterable[Pool], _now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for each pool whose clients wait."""
    for each in found:
        if not each.waiting or each.wait_seconds < WAIT_SECONDS:
            continue
        yield Alarm(
            f"pool/{each.login}",
            "red" if each.wait_seconds >= _RED_SECONDS else "warning",
            f"{each.waiting} clients wait for a connection to {each.database}, the first for"
            f" {each.wait_seconds:.0f} s: all {each.servers} of its pool are in use",
            "`runuser -u postgres -- psql -c 'TABLE pg_stat_activity'` shows by what; `pool.size`"
            " in the app's settings allows more",
        )
