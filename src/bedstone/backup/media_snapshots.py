"""Keep uploaded files as snapshots of a repository: thirty nights take little more than one.

The snapshot is made in the repository of this server and copied to the others, so that each
destination has what the backup's manifest records, to the byte.
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup.manifest import RESTIC, Media
from bedstone.core import files, safe_tree
from bedstone.core.errors import BedstoneError
from bedstone.ledger.kinds import MEDIA, UPLOADS
from bedstone.storage import destinations
from bedstone.storage.restic import Repository
from bedstone.storage.restic_errors import MISSING, ResticError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bedstone.backup.catalog import Backup
    from bedstone.storage.destinations import Destination
    from bedstone.storage.restic import Snapshot

# In the directory of a fetched backup: the destination it came from.
ORIGIN = "origin.json"
# What an interrupted backup left isn't removed in the night in which it might be looked for.
_ORPHAN = timedelta(days=2)


def tags(app: str, backup: str) -> dict[str, str]:
    """Return the tags of a backup's media."""
    return {"app": app, "kind": MEDIA, "backup": backup}


def take(directory: Path, app: str, backup: str, *, watch: Callable[[], None]) -> Media:
    """Keep a directory of uploads as it is now.

    Call it after the dump: a file is there before the row that names it is, so every file that the
    dump names is in the snapshot.

    Args:
        directory: what to keep.
        app: whose.
        backup: name of the backup that it belongs to.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        BedstoneError: it could not be read or written.

    """
    place = destinations.load().local
    repository = Repository(place)
    try:
        made, changed = _backup(repository, directory, app, backup, watch)
    except ResticError as error:
        if error.reason != MISSING:
            raise
        repository.ready()
        made, changed = _backup(repository, directory, app, backup, watch)
    read = repository.count(made)
    return Media(
        "", str(directory), read.files, read.bytes, changed[:100], RESTIC, place.name, read.id
    )


def _backup(
    repository: Repository, directory: Path, app: str, backup: str, watch: Callable[[], None]
) -> tuple[str, list[str]]:
    return repository.backup(directory.parent, [directory.name], tags(app, backup), watch=watch)


def find(found: Media, backup: Path) -> tuple[Destination, Snapshot]:
    """Return where a backup's media are, and as which snapshot.

    Searches the destination the backup was fetched from, then this server, then all others.

    Raises:
        BedstoneError: they are nowhere.

    """
    known = destinations.load()
    first = origin(backup)
    places = sorted(known.all, key=lambda place: place.name != first)
    said = []
    for place in places:
        repository = Repository(place)
        try:
            snapshots = repository.snapshots()
        except BedstoneError as error:
            said.append(f"{place.name}: {error.message}")
            continue
        for snapshot in snapshots:
            kept = snapshot.tags.get("kind") in {MEDIA, UPLOADS}
            if kept and found.snapshot in {snapshot.id, snapshot.original}:
                return place, snapshot
        said.append(f"{place.name}: no snapshot {(found.snapshot or '?')[:8]}")
    raise BedstoneError(
        f"The uploaded files of {backup.name} are at none of the destinations.",
        hint="Restore it without them (--no-media), or take another backup.",
        details="\n".join(said),
    )


def restore(found: Media, backup: Path, into: Path, *, watch: Callable[[], None]) -> None:
    """Restore a backup's media into a directory that is made for them.

    Raises:
        BedstoneError: they could not be read or written.

    """
    place, snapshot = find(found, backup)
    # On the same file system, so that it can be moved.
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as name:
        Repository(place).restore(snapshot.id, Path(name), watch=watch)
        directory = Path(name) / Path(found.directory).name
        if not directory.is_dir():
            raise BedstoneError(
                f"The snapshot {snapshot.id[:8]} at {place.name} doesn't hold {directory.name}."
            )
        safe_tree.disarm(directory)
        directory.rename(into)


def forget(app: str, removed: Collection[Backup], present: Collection[Backup]) -> None:
    """Remove the media of backups that are gone from this server.

    Args:
        app: whose.
        removed: the backups that were removed just now.
        present: all that are there; what one of them needs stays.

    Raises:
        BedstoneError: they are still there.

    """
    place = destinations.load().local
    if not destinations.has_key() or place.restic is None or not place.restic.exists():
        return
    repository = Repository(place)
    old = datetime.now(UTC) - _ORPHAN
    needed = {_snapshot(backup) for backup in present}
    gone = {_snapshot(backup) for backup in removed}
    # By its name as well: the manifest of one that is damaged can't be read.
    names = {backup.name for backup in present}
    repository.forget(
        [
            snapshot.id
            for snapshot in repository.snapshots({"app": app, "kind": MEDIA})
            if snapshot.id not in needed
            and snapshot.tags.get("backup") not in names
            and (snapshot.id in gone or snapshot.time < old)
        ]
    )


def _snapshot(backup: Backup) -> str | None:
    media = backup.manifest.media if backup.manifest else None
    return media.snapshot if media else None


def mark_origin(backup: Path, destination: str) -> None:
    """Record the destination that a backup was fetched from."""
    files.write(backup / ORIGIN, json.dumps({"destination": destination}) + "\n", mode=0o600)


def origin(backup: Path) -> str:
    """Return the destination that a backup was fetched from; this server by default."""
    try:
        return str(json.loads((backup / ORIGIN).read_text(encoding="utf-8"))["destination"])
    except (OSError, ValueError, KeyError, TypeError):
        return destinations.LOCAL
