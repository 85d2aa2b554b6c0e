"""Back the cluster up to each destination; a failure at one doesn't affect the others."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.backup import retention_held, settings, verify_settings
from bedstone.core import disk, files, lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, verifications
from bedstone.ledger.kinds import SERVER, WAL
from bedstone.wal import observe, retention
from bedstone.wal.info import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from bedstone.storage.destinations import Destination
    from bedstone.wal.info import Backup, Info
    from bedstone.wal.stanza import Kind, Stanza

LOCK = "wal-backup"
# Of the size of the last one: what a full backup may have grown by.
_GROWTH = 1.25
_WHAT = "A backup of the cluster"


@dataclass(frozen=True)
class Outcome:
    """The result of the backup to one destination.

    Attributes:
        destination: its name.
        error: what failed, or None.
        backup: the backup, asked at the destination after it was made.
        seconds: how long it took.
        kept: how many chains are there now, None when that wasn't checked.
        warnings: what is wrong although the backup was made.

    """

    destination: str
    error: BedstoneError | None
    backup: Backup | None
    seconds: float
    kept: int | None = None
    warnings: tuple[str, ...] = ()


def everywhere(
    stanza: Stanza,
    kind: Kind,
    destinations: Sequence[Destination],
    *,
    say: Callable[[str], None],
) -> list[Outcome]:
    """Make a backup for each destination, one after the other.

    Args:
        stanza: the cluster.
        kind: ``full`` or ``incr``.
        destinations: where to.
        say: called with the text of each one that is done.

    Raises:
        LockedError: a backup is running already.

    """
    word = "full" if kind == FULL else "incremental"
    with lock.held(LOCK, f"bedstone wal {word}") as held:
        outcomes = []
        for destination in destinations:
            held.beat(destination.name)
            outcome = _to(stanza, kind, destination)
            say(_words(outcome))
            outcomes.append(outcome)
        return outcomes


def _to(stanza: Stanza, kind: Kind, destination: Destination) -> Outcome:
    began = time.monotonic()
    try:
        before = stanza.ready(destination)
        _room(before, kind, destination)
        made = _made(stanza, kind, destination, before)
    except BedstoneError as error:
        if isinstance(error, disk.DiskFullError):
            _remove_unfinished(stanza)
        _measure(stanza, destination)
        return Outcome(destination.name, error, None, time.monotonic() - began)
    warnings = []
    if made.damaged:
        warnings.append(
            "pages of the database have a wrong checksum, and so are broken in this backup: see"
            " `pgbackrest info --stanza=main` and PostgreSQL's log; older backups may be whole"
        )
    kept = None
    try:
        kept = retain(stanza, destination)
    except (BedstoneError, sqlite3.Error) as error:
        text = error.message if isinstance(error, BedstoneError) else f"the ledger fails: {error}"
        warnings.append(f"old backups could not be removed: {text}")
    problem = _measure(stanza, destination)
    if problem:
        warnings.append(problem)
    seconds = time.monotonic() - began
    return Outcome(destination.name, None, made, seconds, kept, tuple(warnings))


def _measure(stanza: Stanza, destination: Destination) -> str | None:
    """Record what is at a destination; a failure of that doesn't affect the other backups."""
    try:
        return observe.measure(stanza, destination)
    except (BedstoneError, sqlite3.Error) as error:
        return f"what is there could not be written down: {error}"


def _made(stanza: Stanza, kind: Kind, destination: Destination, before: Info) -> Backup:
    """Make a backup and return it as the destination shows it.

    Raises:
        BedstoneError: it failed, or isn't there.

    """
    watch = _watch() if destination.is_local else None
    return _newer(stanza.backup(kind, destination, watch=watch), before, destination)


def _newer(after: Info, before: Info, destination: Destination) -> Backup:
    """Return the newest backup, which has to be another one than before."""
    made = after.newest
    if made is None or before.backup(made.label) is not None:
        raise BedstoneError(
            f"pgBackRest calls the backup done, but there is no new one at {destination.name}"
            f" ({destination.words()}).",
            hint="Does something else write or remove there? `bedstone wal list` shows what is"
            " there.",
        )
    return made


def _room(before: Info, kind: Kind, destination: Destination) -> None:
    """Refuse a backup on this server's disk that would fill it."""
    if not destination.is_local:
        return
    last = next((found for found in reversed(before.backups) if found.type == kind), None)
    fulls = [found for found in before.backups if found.type == FULL]
    if last is None and (kind == FULL or not fulls):
        # Compressed; before the first one, the ratio is unknown.
        needed = 0
    else:
        needed = int((last.bytes if last else fulls[-1].bytes // 10) * _GROWTH)
    disk.require(_repository(), needed, _reserve(), _WHAT)


def _watch() -> Callable[[], None]:
    """Return what ends a backup that takes the last of this server's disk: the database's too."""
    reserve = _reserve()
    return lambda: disk.still(_repository(), reserve, _WHAT)


def _remove_unfinished(stanza: Stanza) -> None:
    """Remove the rest of a backup that a full disk stopped: pgBackRest keeps it.

    A backup has its list of files when it is one.
    """
    for directory in (_repository() / "backup" / stanza.name).glob("[0-9]*-*"):
        if not (directory / "backup.manifest").exists():
            files.remove_tree(directory)


def _repository() -> Path:
    return paths.host("/var/lib/pgbackrest")


def _reserve() -> int:
    return settings.load().reserve_bytes if settings.path().exists() else 0


def retain(stanza: Stanza, destination: Destination) -> int:
    """Remove what is older than the settings ask for, and return how many chains there are.

    At an immutable destination nothing is removed: retention is the other side's.
    """
    found = stanza.info(destination)
    chains = sum(backup.type == FULL for backup in found.backups)
    if destination.immutable:
        return chains
    keep = retention.full_backups_to_keep(
        found.backups,
        datetime.now(UTC),
        keep_days=retention_held.in_force(
            retention_held.of_log(stanza.settings.keep_days)
        ).keep_point_in_time_days,
        keep_full=stanza.settings.keep_full,
        verified=verified(destination),
    )
    if chains > keep:
        stanza.expire(destination, keep)
    return min(chains, keep)


def verified(destination: Destination) -> Collection[str]:
    """Return the labels of the verified backups at a destination."""
    if (
        destination.is_local
        and settings.path().exists()
        and verify_settings.load().host is not None
    ):
        # They are no longer verified: what was verified once would stay, and all since, for ever.
        return ()
    with database.opened() as connection:
        # A backup that passed once and failed since no longer counts as verified.
        return verifications.passed(connection, SERVER, destination.name).get(WAL, ())


def _words(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"{outcome.destination}: FAILED: {outcome.error.text()}"
    assert outcome.backup is not None
    text = (
        f"{outcome.destination}: {outcome.backup.label},"
        f" {disk.human(outcome.backup.bytes)} in {outcome.seconds:.0f} s"
    )
    return "\n".join([text, *(f"{outcome.destination}: but {word}" for word in outcome.warnings)])
