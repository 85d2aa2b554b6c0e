"""Show the database server's lines of the overview, from `database_health`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import disk as space
from bedstone.status import postgres_health
from bedstone.status.postgres_rules import days

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone.core.terminal import Paint

# Less growth than this is noise, and a disk that lasts a year needs no word.
_LEAST_GROWTH = 1024 * 1024
_LONG_DAYS = 365
_MOST_NAMES = 3

look = postgres_health.gather


def problems(shown: Mapping[str, Any] | None) -> list[str]:
    """Return what needs attention, each beginning with its subject."""
    return [f"PostgreSQL: {problem}" for problem in shown["problems"]] if shown else []


def lines(shown: Mapping[str, Any] | None, paint: Paint) -> Iterator[str]:
    """Yield a line on the server, and one for each disk that is expected to fill up."""
    if shown is None:
        return
    if shown["error"]:
        yield f"PostgreSQL: {paint('red', shown['error'])}"
    else:
        yield f"PostgreSQL {shown['version']}: {_sizes(shown)}{_ages(shown, paint)}"
    for disk in shown["disks"]:
        left = disk["days_left"]
        if left is not None and left < _LONG_DAYS:
            yield f"{disk['path']}: full in about {days(left)}, at the pace of the last two weeks"


def _sizes(shown: Mapping[str, Any]) -> str:
    found = [entry for entry in shown["databases"] if entry["name"] != "postgres"]
    total = sum(entry["bytes"] for entry in found)
    words = ", ".join(f"{entry['name']} {space.human(entry['bytes'])}" for entry in found)
    if len(found) > _MOST_NAMES or not found:
        words = f"{len(found)} databases, {space.human(total)}"
    growth = sum(entry["bytes_per_day"] or 0 for entry in found)
    return words + (f", {space.human(growth)} more each day" if growth >= _LEAST_GROWTH else "")


def _ages(shown: Mapping[str, Any], paint: Paint) -> str:
    ages = shown["wraparound"]
    share = max(ages["age"], ages["multixact_age"]) / ages["stops_at"]
    late = ages["age"] >= ages["warn_at"] or ages["multixact_age"] >= ages["multixact_warn_at"]
    words = f"transaction ids {share:.0%} used"
    return f"; {paint('red', words) if late else words}"
