"""Try to delete a canary at an immutable destination, as an intruder would: it has to fail.

Done with the server's own keys. The result is what is there afterwards, not what the other side
answered: restic's `forget` calls a refusal a success.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError
from bedstone.offsite import copies
from bedstone.storage import destinations, s3
from bedstone.storage.restic import Repository
from bedstone.storage.s3 import Bucket, S3Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.storage.destinations import Destination
    from bedstone.storage.restic import Snapshot
    from bedstone.storage.s3 import Protection, Version

KIND = "canary"
OBJECT = "bedstone-canary"
_TEXT = b"No backup needs this object. Its server tries to delete it each hour, and has to fail.\n"
# Of an object that was written before its bucket had versions. Here there is none: to delete it
# needs the right and does no harm.
_NO_VERSION = "null"
_CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True)
class Attempt:
    """The result at one destination.

    Attributes:
        destination: its name.
        deleted: what could be deleted, as text.
        unlocked: what could be deleted once its lock has ended: the key has the right to it.
        protection: what its bucket keeps; None where there is no bucket, or it can't be asked.
        error: why there is no result, or none on the protection.

    """

    destination: str
    deleted: tuple[str, ...] = ()
    unlocked: tuple[str, ...] = ()
    protection: Protection | None = None
    error: str | None = None


def attempt(destination: Destination) -> Attempt:
    """Try to delete canaries at a destination, and put back those that are gone."""
    try:
        if destination.type == destinations.SFTP:
            gone = ("snapshots",) if _in_repository(Repository(destination)) else ()
            return Attempt(destination.name, gone)
        return _in_buckets(destination)
    except BedstoneError as error:
        return Attempt(destination.name, error=error.message)


def _in_buckets(destination: Destination) -> Attempt:
    ways = [("backups", "restic", destination.secrets / s3.FILE)]
    if destination.pgbackrest is not None:
        ways.append(("WAL", "pgbackrest", destination.secrets / s3.WAL_FILE))
    gone, unlocked, home = [], [], destination.path.strip("/")
    for what, directory, path in ways:
        bucket = Bucket(destination, s3.read_keys(path))
        key = f"{home}/{directory}/{OBJECT}".lstrip("/")
        if _in_bucket(bucket, key):
            gone.append(what)
        elif not _is_refused(bucket, key, _NO_VERSION):
            unlocked.append(what)
    protection, error = None, None
    try:
        protection = Bucket(destination, s3.read_keys(ways[0][2])).protection()
    except S3Error as failed:
        error = failed.message
    return Attempt(destination.name, tuple(gone), tuple(unlocked), protection, error)


def _in_bucket(bucket: Bucket, key: str) -> bool:
    """Return whether a version of an object could be deleted."""
    oldest = _version(bucket, key)
    if oldest is None:
        bucket.put(key, _TEXT)
        oldest = _version(bucket, key)
    if oldest is None:
        raise BedstoneError(f"{key} was written, and isn't there.")
    _is_refused(bucket, key, oldest.id)
    gone = all(version.id != oldest.id for version in bucket.versions(key))
    if gone:
        bucket.put(key, _TEXT)
    return gone


def _is_refused(bucket: Bucket, key: str, version: str) -> bool:
    try:
        bucket.delete(key, version)
    except S3Error as error:
        # Services differ in how they refuse; one that is out of order has refused nothing.
        if error.status not in _CLIENT_ERRORS:
            raise
        return True
    return False


def _version(bucket: Bucket, key: str) -> Version | None:
    """Return the oldest version: backups are as old, and their locks end as early."""
    own = [found for found in bucket.versions(key) if found.key == key and not found.deleted]
    return min(own, key=lambda found: found.modified, default=None)


def _in_repository(repository: Repository) -> bool:
    """Return whether a snapshot could be forgotten."""
    found = _canaries(repository)
    if not found:
        _put(repository)
        found = _canaries(repository)
    if not found:
        raise BedstoneError(f"A canary was sent to {repository.destination.name}, and isn't there.")
    repository.drop(found[-1].id)
    gone = found[-1].id not in {snapshot.id for snapshot in _canaries(repository)}
    if gone:
        _put(repository)
    return gone


def _canaries(repository: Repository) -> list[Snapshot]:
    return [s for s in copies.snapshots_of(repository) if s.tags.get("kind") == KIND]


def _put(repository: Repository) -> None:
    with tempfile.TemporaryDirectory(prefix="bedstone-canary-") as place:
        Path(place, OBJECT).write_bytes(_TEXT)
        repository.backup(Path(place), [OBJECT], {"kind": KIND})


def attempts(look: Callable[[Destination], Attempt] = attempt) -> list[Attempt]:
    """Try all immutable destinations of this server."""
    return [look(place) for place in destinations.load().remote if place.immutable]
