"""Measure how far WAL and backups of the cluster reach at each destination."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.core import age, clock
from bedstone.core.errors import BedstoneError
from bedstone.ledger import observations
from bedstone.ledger.kinds import SERVER, WAL
from bedstone.postgres import queries
from bedstone.wal.archiver import MANY_READY
from bedstone.wal.errors import UnreachableError
from bedstone.wal.segments import missing, number
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.storage.destinations import Destination, Destinations
    from bedstone.wal.info import Info
    from bedstone.wal.segments import Segment

# A slow connection is no fault, nor is a moment in which much is written.
_LEAST_LATE = timedelta(minutes=5)
_LATE_TIMEOUTS = 3


def measure_all(destinations: Destinations) -> tuple[str, ...]:
    """Check all destinations, record what is there, and return the problems.

    Nothing is done on a server that archives no WAL.
    """
    if destinations.point_in_time is None:
        return ()
    stanza = Stanza(destinations)
    found = (measure(stanza, destination) for destination in stanza.repositories)
    return tuple(problem for problem in found if problem is not None)


def measure(stanza: Stanza, destination: Destination) -> str | None:
    """Check one destination, record what is there, and return the problem, if any."""
    try:
        # First: what is finished while the archive is listed needn't be there yet.
        current = _current(stanza)
        info = stanza.info(destination)
        segments = stanza.segments(destination, info.archive) if info.archive else ()
    except UnreachableError as error:
        # It may be gone in an hour without an operator's action.
        observations.unseen(destination.name, SERVER, WAL, error.message)
        return error.message
    except BedstoneError as error:
        observations.unusable(destination.name, SERVER, WAL, error.message)
        return error.message
    now = datetime.now(UTC)
    problem = judge(info, segments, current, now, stanza.settings.archive_timeout_seconds)
    newest = segments[-1] if segments else None
    observations.record(
        destination.name,
        SERVER,
        WAL,
        newest=info.newest.label if info.newest else None,
        newest_at=newest.arrived_at if newest else None,
        size=sum(backup.bytes for backup in info.backups),
        problem=problem,
    )
    return problem and f"{destination.name}: {problem}"


def judge(
    info: Info,
    segments: Sequence[Segment],
    current: str,
    now: datetime,
    archive_timeout_seconds: int,
) -> str | None:
    """Return what is wrong with what lies at a destination, or None.

    Args:
        info: of its repository.
        segments: the WAL there, sorted by name.
        current: the segment that PostgreSQL writes.
        now: the present, in UTC.
        archive_timeout_seconds: when an unfinished segment is archived at the latest.

    """
    if not info.exists:
        return "there is no repository: `bedstone wal ready` makes one"
    if info.newest is None:
        return "there is no backup of the cluster yet: `bedstone wal full` makes one"
    gap = missing([segment.name for segment in segments], info.newest.wal[0])
    if gap:
        return (
            f"the WAL there has a gap: {len(gap)} segments from {gap[0]} on are missing, so nothing"
            " after them can be brought back: `bedstone wal full` begins anew"
        )
    # One that was made while the clock was ahead would be new for years.
    past = [backup for backup in info.backups if not clock.is_ahead(backup.finished_at, now)]
    if not past:
        ahead = age.humanize((info.newest.finished_at - now).total_seconds())
        return f"the last backup there is {ahead} ahead of this server's clock: is that right?"
    old = now - past[-1].finished_at
    if old > clock.NIGHTLY:
        return f"the last backup there is {age.humanize(old.total_seconds())} old"
    return _late(segments, current, now, archive_timeout_seconds)


def _late(
    segments: Sequence[Segment], current: str, now: datetime, archive_timeout_seconds: int
) -> str | None:
    newest = segments[-1] if segments else None
    late = max(_LATE_TIMEOUTS * timedelta(seconds=archive_timeout_seconds), _LEAST_LATE)
    behind = number(current) - 1 - number(newest.name) if newest else 0
    if newest is not None and behind > 0 and now - newest.arrived_at > late:
        ago = age.humanize((now - newest.arrived_at).total_seconds())
        return f"no WAL has arrived there for {ago}; {behind} segments are missing"
    if newest is not None and behind > MANY_READY and newest.arrived_at > now:
        # The clock there is ahead, or was: the age can't be computed from it.
        return f"WAL doesn't arrive there: {behind} segments are missing"
    return None


def _current(stanza: Stanza) -> str:
    return queries.wal_segment(stanza.server)
