"""Wait until WAL has arrived at a destination."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError
from bedstone.wal import archiver
from bedstone.wal.segments import number

if TYPE_CHECKING:
    from bedstone.storage.destinations import Destination
    from bedstone.wal.stanza import Stanza

_POLL_SECONDS = 0.5


def for_segment(stanza: Stanza, destination: Destination, segment: str, seconds: float) -> None:
    """Return once a segment is at a destination.

    Raises:
        BedstoneError: it wasn't within ``seconds``; says what holds it up, if that is known.

    """
    limit = time.monotonic() + seconds
    while True:
        newest = stanza.info(destination).newest_wal
        if newest is not None and number(newest) >= number(segment):
            return
        if time.monotonic() > limit:
            break
        time.sleep(_POLL_SECONDS)
    health = archiver.health(stanza.server, stanza.settings.archive_timeout_seconds)
    raise BedstoneError(
        f"The WAL segment {segment} didn't arrive at {destination.name} ({destination.words()})"
        f" within {seconds:.0f} seconds; the last one there is {newest or 'none'}.",
        hint=health.problem
        or "pgBackRest's own words are in /var/log/pgbackrest and /var/log/postgresql.",
    )
