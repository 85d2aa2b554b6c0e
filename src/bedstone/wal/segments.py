"""Parse names of PostgreSQL's WAL segments, and find gaps in a row of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

SEGMENT_BYTES = 16 * 1024 * 1024

_LOG_BYTES = 1 << 32
_TIMELINE_DIGITS = 8
_ARCHIVED = re.compile(r"(?:^|/)([0-9A-F]{24})-[0-9a-f]{40}")


@dataclass(frozen=True)
class Segment:
    """One archived segment: its name, and when it arrived."""

    name: str
    arrived_at: datetime


def segment_of(path: str) -> str | None:
    """Return the segment that a file of pgBackRest's archive holds, or None for another file."""
    found = _ARCHIVED.search(path)
    return found[1] if found else None


def number(name: str, segment_bytes: int = SEGMENT_BYTES) -> int:
    """Return a segment's place in the row of all, whatever its timeline.

    Args:
        name: 24 hexadecimal digits: timeline, log, segment.
        segment_bytes: size of the cluster's segments.

    """
    log, segment = int(name[8:16], 16), int(name[16:24], 16)
    return log * (_LOG_BYTES // segment_bytes) + segment


def last_before(lsn: str, segment_bytes: int = SEGMENT_BYTES) -> int:
    """Return the place of the segment that ends at a position in the WAL, or holds it."""
    high, _, low = lsn.partition("/")
    # A position is that of the next byte: after a whole segment, it is the next one's first.
    return max(int(high, 16) * _LOG_BYTES + int(low, 16) - 1, 0) // segment_bytes


def name_of(place: int, timeline: str, segment_bytes: int = SEGMENT_BYTES) -> str:
    """Return the name of the segment at a place, on a timeline (8 hexadecimal digits)."""
    log, segment = divmod(place, _LOG_BYTES // segment_bytes)
    return f"{timeline}{log:08X}{segment:08X}"


def missing(
    names: Iterable[str], first: str, segment_bytes: int = SEGMENT_BYTES
) -> tuple[str, ...]:
    """Return the segments that aren't there between ``first`` and the last one that is.

    Args:
        names: the archived segments, in any order.
        first: the first one that is needed.
        segment_bytes: size of the cluster's segments.

    """
    places = {number(name, segment_bytes): name[:_TIMELINE_DIGITS] for name in names}
    begin = number(first, segment_bytes)
    later = [place for place in places if place >= begin]
    timeline = first[:_TIMELINE_DIGITS]
    found = []
    for place in range(begin, max(later, default=begin) + 1):
        timeline = places.get(place, timeline)
        if place not in places:
            found.append(name_of(place, timeline, segment_bytes))
    return tuple(found)
