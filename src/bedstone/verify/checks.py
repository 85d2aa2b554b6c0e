"""Verify the parts of a backup: the restored data has the row counts of the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.backup import manifest, media, media_snapshots
from bedstone.backup.manifest import differences, kinds
from bedstone.core import disk
from bedstone.core.errors import BedstoneError
from bedstone.ledger.kinds import MEDIA
from bedstone.ledger.verifications import LOCAL
from bedstone.postgres import dump, queries, soundness, temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.manifest import Manifest
    from bedstone.backup.settings import App

_SHOWN = 20


@dataclass(frozen=True)
class Proof:
    """The result of a part that passed.

    Attributes:
        rows: rows restored, of a dump.
        bytes: bytes of files unpacked, of media.
        said: what was verified, in words.

    """

    rows: int | None
    bytes: int | None
    said: str


def needed_bytes(found: Manifest) -> int:
    """Return the disk space that the verification of a backup needs; its parts run one by one."""
    sizes = [found.media.bytes if found.media else 0]
    if found.database:
        sizes.append(queries.restored_bytes(found.database.bytes) + temporary.EMPTY_BYTES)
    return max(sizes)


def damages(backup: Backup, found: Manifest) -> dict[str, list[str]]:
    """Return for each part a sentence for each of its files that isn't what was written."""
    archive = found.media.archive if found.media else None
    wrong: dict[str, list[str]] = {}
    for sentence in manifest.damages(backup.path, found, contents=True):
        kind = MEDIA if archive and sentence.startswith(archive) else kinds(found)[0]
        wrong.setdefault(kind, []).append(sentence)
    return wrong


def prove_dump(
    backup: Backup,
    found: dump.Database,
    app: App,
    place: Path,
    *,
    checks: Sequence[str],
    jobs: int,
    watch: Callable[[], None],
    major: int | None = None,
) -> Proof:
    """Restore a dump into a temporary cluster, and check the result.

    Args:
        backup: where it is.
        found: what the manifest records of it.
        app: whose it is.
        place: a directory that is removed afterwards.
        checks: SQL expressions, each of which has to be true.
        jobs: parallel processes.
        watch: called repeatedly while it runs; its exception stops it.
        major: PostgreSQL's version to restore with (default: the dump's own, if it is here).

    Raises:
        BedstoneError: it isn't what it should be; says in which way.

    """
    directory = backup.path / manifest.DATABASE
    major = major or temporary.major_for(found, backup.name)
    with temporary.cluster(place, major, watch=watch) as server:
        temporary.restore(server, found, directory, owner=app.owner, jobs=jobs, watch=watch)
        counted = dump.count(server, temporary.DATABASE)
        if different := differences(found.rows, counted):
            raise BedstoneError(
                "The restored tables don't hold what was counted when the backup was made.",
                details="\n".join(different[:_SHOWN]),
            )
        for check in checks:
            soundness.ask(server, check, str(found.properties["owner"]), temporary.DATABASE)
        sound = soundness.amcheck(server, watch, temporary.DATABASE)
    rows = sum(counted.values())
    said = f"the {rows} rows of {len(counted)} tables are as they were counted"
    if checks:
        said += f"; each of `backup_checks` ({len(checks)}) is true"
    return Proof(rows, None, f"{said}; {sound}")


def prove_media(
    backup: Backup,
    found: manifest.Media,
    place: Path,
    *,
    destination: str = LOCAL,
    watch: Callable[[], None],
) -> Proof:
    """Unpack the media into a temporary directory, and count.

    Args:
        backup: where it is.
        found: what the manifest records of them.
        place: a directory that is removed afterwards.
        destination: where they have to come from.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        BedstoneError: it isn't what it should be; says in which way.

    """
    directory = place / "media"
    if found.engine == manifest.RESTIC:
        where, _ = media_snapshots.find(found, backup.path)
        if where.name != destination:
            raise BedstoneError(
                f"The uploads of {backup.name} aren't at {destination}, only at {where.name}.",
                hint="`bedstone copy` sends what is missing.",
            )
    media.unpack(found, backup.path, directory, watch=watch, sync=False)
    files, size = media.count(directory), media.regular_bytes(directory)
    if (files, size) != (found.files, found.bytes):
        raise BedstoneError(
            f"{files} files with {size} bytes were unpacked, but the backup recorded"
            f" {found.files} files with {found.bytes} bytes."
        )
    return Proof(None, size, f"files ({files}, {disk.human(size)}) are as they were recorded")
