"""Find times of day that a change to daylight saving time skips.

When the clocks go forward, systemd goes on to the day after: a timer at 02:30 has one night a
year without its run (in most of Europe and North America; 00:30 in Chile, 03:30 in Finland).
"""

from __future__ import annotations

import re
from bisect import bisect
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

# So far ahead the rules of the zones are known well enough.
_DAYS_AHEAD = 3 * 366
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)
_MINUTES = 24 * 60
# In no zone are these left out.
ALWAYS_THERE = "04:00"
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"(\d{1,2}(?:,\d{1,2})*):(\d{2})(?::\d{2})?")
_EVERY_DAY = re.compile(r"(?:\*-)?\*-\*")


def missing_on(zone: str, time: str, weekdays: frozenset[int] | None = None) -> date | None:
    """Return the next day on which a time of day doesn't exist, or None when there is none.

    Args:
        zone: the time zone, such as ``Europe/Berlin``; one that isn't known has no such day.
        time: ``HH:MM``.
        weekdays: only these matter (0 is Monday); all by default.

    """
    hour, _, minute = time.partition(":")
    for begin, end in _skipped(zone, datetime.now(UTC).date()):
        moment = datetime.combine(begin, clock_time(int(hour), int(minute)))
        for found in (moment, moment + _DAY):
            if begin <= found < end and (weekdays is None or found.weekday() in weekdays):
                return found.date()
    return None


@cache
def _skipped(zone: str, today: date) -> tuple[tuple[datetime, datetime], ...]:
    """Return the spans of local time that the clocks of a zone leave out: begin, and end."""
    try:
        known = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ()

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(known).utcoffset() or timedelta()

    spans = []
    # A day early: the local date may be behind.
    before = datetime.combine(today, clock_time(), UTC) - _DAY
    for _ in range(_DAYS_AHEAD):
        after = before + _DAY
        if (old := offset(before)) < (new := offset(after)):
            minutes = [before + number * _MINUTE for number in range(_MINUTES + 1)]
            change = minutes[bisect(minutes, old, key=offset)]
            begin = change.replace(tzinfo=None) + old
            spans.append((begin, begin + (new - old)))
        before = after
    return tuple(spans)


def schedule_missing_on(zone: str, schedule: str) -> tuple[str, date] | None:
    """Return the time of a schedule that is left out on a day, with the day; None when none is.

    What runs on certain dates, or every few minutes, is taken as it is: there only schedules of
    days and weekdays with fixed hours are looked at.
    """
    for time, weekdays in _times(schedule):
        if (day := missing_on(zone, time, weekdays)) is not None:
            return time, day
    return None


def shifted(zone: str, time: str, hours: int) -> tuple[int, str]:
    """Return a time some hours away, farther still if a night would leave that out.

    Returns:
        by how many days it is another day, and ``HH:MM``.

    """
    hour, _, minute = time.partition(":")
    step = 1 if hours > 0 else -1
    while True:
        days, later = divmod(int(hour) + hours, 24)
        found = f"{later:02}:{minute}"
        if missing_on(zone, found) is None:
            return days, found
        hours += step


def _times(schedule: str) -> Iterator[tuple[str, frozenset[int] | None]]:
    words = schedule.lower().split()
    if words == ["daily"]:
        yield "00:00", None
        return
    weekdays: frozenset[int] | None = None
    for word in words[:-1]:
        if _EVERY_DAY.fullmatch(word):
            continue
        weekdays = _weekdays(word)
        if weekdays is None:
            return
    found = _TIME.fullmatch(words[-1]) if words else None
    if found is not None:
        for hour in found[1].split(","):
            if int(hour) < 24 and int(found[2]) < 60:  # noqa: PLR2004 - a day's hours
                yield f"{int(hour):02}:{found[2]}", weekdays


def _weekdays(word: str) -> frozenset[int] | None:
    found: set[int] = set()
    for part in word.strip(",").split(","):
        first, _, last = part.partition("..")
        if first[:3] not in _WEEKDAYS or (last and last[:3] not in _WEEKDAYS):
            return None
        start = _WEEKDAYS.index(first[:3])
        end = _WEEKDAYS.index(last[:3]) if last else start
        found.update(range(start, end + 1 if end >= start else 7))
        if end < start:
            found.update(range(end + 1))
    return frozenset(found)
