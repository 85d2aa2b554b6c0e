"""Show whether PostgreSQL's WAL is archived, and how far it reaches at each destination."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone.core import age
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, observations
from bedstone.ledger.kinds import WAL
from bedstone.storage import destinations
from bedstone.wal import archiver
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone.core.terminal import Paint

# A check runs each hour; after two missed checks the age is a problem.
_UNSEEN = timedelta(hours=2, minutes=30)


def wal_status() -> dict[str, Any] | None:
    """Return how archiving is, or None on a server that keeps no WAL.

    The keys are those of `bedstone status --json`: ``archiving`` (`archive_health.Health`, None
    when PostgreSQL doesn't answer) and ``destinations`` (each with name, newest, newest_at,
    checked_at and problem, as last seen there).
    """
    known = destinations.load()
    if known.point_in_time is None:
        return None
    stanza = Stanza(known)
    try:
        health = archiver.health(stanza.server, stanza.settings.archive_timeout_seconds)
        archiving: dict[str, Any] | None = health.as_json()
    except BedstoneError:
        # PostgreSQL's own line says that it doesn't answer.
        archiving = None
    with closing(database.connect()) as connection:
        seen = {entry.destination: entry for entry in observations.last_seen(connection, kind=WAL)}
    return {
        "archiving": archiving,
        "destinations": [
            _destination(place.name, seen.get(place.name)) for place in stanza.repositories
        ],
    }


def _destination(name: str, seen: observations.Arrival | None) -> dict[str, Any]:
    problem = seen.problem if seen else "it was not checked yet: `bedstone wal ready`"
    if seen is not None and problem is None and seen.checked_at is not None:
        old = datetime.now(UTC) - seen.checked_at
        if old > _UNSEEN:
            problem = f"it was not checked for {age.humanize(old.total_seconds())}"
    return {
        "name": name,
        "newest": seen.newest if seen else None,
        "newest_at": _text(seen.newest_at) if seen else None,
        "checked_at": _text(seen.checked_at) if seen else None,
        "problem": problem,
    }


def problems(shown: Mapping[str, Any] | None) -> list[str]:
    """Return what needs attention, beginning with where."""
    if shown is None:
        return []
    archiving = shown["archiving"]
    own = [archiving["problem"]] if archiving and archiving["problem"] else []
    return [
        *own,
        *(
            f"WAL at {place['name']}: {place['problem']}"
            for place in shown["destinations"]
            if place["problem"]
        ),
    ]


def lines(shown: Mapping[str, Any] | None, paint: Paint) -> Iterator[str]:
    """Yield a line on the archive."""
    if shown is None or shown["archiving"] is None:
        return
    archiving = shown["archiving"]
    words = "none archived yet"
    if archiving["archived_seconds"] is not None:
        words = f"archived {age.humanize(archiving['archived_seconds'])} ago"
    if archiving["problem"]:
        words = paint("red", words)
    places = ", ".join(
        paint("red" if place["problem"] else "plain", place["name"])
        for place in shown["destinations"]
    )
    yield f"WAL: {words}, kept at {places}"


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
