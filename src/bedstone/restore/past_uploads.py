"""Find the uploads that fit an app's database as of a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.backup.manifest import RESTIC, Media
from bedstone.core.errors import BedstoneError
from bedstone.offsite import copies, uploads
from bedstone.pitr import window
from bedstone.storage import destinations
from bedstone.storage.restic import Repository

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from bedstone.backup.settings import App
    from bedstone.storage.destinations import Destination
    from bedstone.storage.restic import Snapshot

_STAY = "Uploads stay as they are"


def find(
    app: App, media: Path, moment: datetime, destination: str | None
) -> tuple[Media | None, str]:
    """Return the uploads that fit a moment, and a sentence for the operator.

    A copy that was made since then holds each file that a row of that time names; so do the
    present uploads, but for what was deleted. So a copy from before is only taken where there
    are none.

    Args:
        app: whose; without `copy_every_minutes`, its uploads stay as they are.
        media: their directory.
        moment: what the database is like.
        destination: where the database comes from, searched first; None: that is read as of an
            earlier moment, which a search now doesn't see.

    """
    if app.copy_every is None or destination is None:
        return None, f"{_STAY}: they aren't in the WAL."
    present = media.is_dir() and any(media.iterdir())
    found = []
    for place in _places(destination):
        try:
            state = uploads.fitting(copies.snapshots_of(Repository(place)), app.app, moment)
        except BedstoneError:
            # Another destination has them, or they stay.
            continue
        if state is not None and (state.time >= moment or not present):
            found.append((place, state))
    if not found:
        return None, f"{_STAY}: no destination has a copy that was made since that moment."
    place, state = min(found, key=lambda each: _distance(each[1], moment))
    try:
        read = Repository(place).count(state.id)
    except BedstoneError as error:
        return None, f"{_STAY}: those at {place.name} can't be read: {error.message}"
    which = "the first copy since" if state.time >= moment else "the last copy before"
    said = (
        f"The uploads are those of {window.text_of(state.time)}, from {place.name}: {which} that"
        " moment. `--no-media` leaves the present ones as they are."
    )
    described = Media(
        "", str(media), read.files, read.bytes, [], RESTIC, place.name, state.original or state.id
    )
    return described, said


def _places(first: str) -> list[Destination]:
    return sorted(destinations.load().remote, key=lambda place: place.name != first)


def _distance(state: Snapshot, moment: datetime) -> tuple[bool, float]:
    seconds = (state.time - moment).total_seconds()
    return seconds < 0, abs(seconds)
