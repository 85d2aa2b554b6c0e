"""Choose among the states of an app's uploads that a destination has.

A state is a snapshot that was taken with a backup, or one that was taken between two backups
(:mod:`bedstone.offsite.uploads_sync`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.core import clock
from bedstone.ledger.kinds import MEDIA, UPLOADS
from bedstone.offsite import copies

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from bedstone.storage.restic import Snapshot

# Backups of so many days have to follow: as in retention, an outage counts for nothing.
_LATER_DAYS = 2
_LEAST_AGE = timedelta(days=1)


def states(snapshots: Sequence[Snapshot], app: str) -> list[Snapshot]:
    """Return the states of an app's uploads, the oldest first, without those from the future."""
    # Those of a backup that isn't whole, too: an unchanged directory adds no snapshot after them.
    found = [s for kind in (UPLOADS, MEDIA) for s in copies.of_kind(snapshots, app, kind)]
    return sorted(
        (state for state in found if not clock.is_ahead(state.time)), key=lambda state: state.time
    )


def fitting(
    snapshots: Sequence[Snapshot], app: str, moment: datetime | None = None
) -> Snapshot | None:
    """Return the state that fits an app's database as of a moment, or None when there is none.

    It is the oldest one since then: a file is there before the row that names it. Without such a
    one, it is the last one before.

    Args:
        snapshots: all of a destination.
        app: whose.
        moment: what the database is like; None for the last there is.

    """
    found = states(snapshots, app)
    since = [state for state in found if moment is not None and state.time >= moment]
    if since:
        return since[0]
    return found[-1] if found else None


def obsolete(snapshots: Sequence[Snapshot], app: str) -> list[str]:
    """Return the ids of states between backups that are older than the backups of two days."""
    kept = [r.snapshots[MEDIA] for r in copies.whole(snapshots, app) if MEDIA in r.snapshots]
    times = [media.time for media in kept if not clock.is_ahead(media.time)]
    old = datetime.now(UTC) - _LEAST_AGE

    def later_days(state: Snapshot) -> set[date]:
        return {time.date() for time in times if time > state.time}

    return [
        state.id
        for state in copies.of_kind(snapshots, app, UPLOADS)
        if state.time < old and len(later_days(state)) >= _LATER_DAYS
    ]
