"""Restore the whole cluster as of a moment into a temporary cluster, for reading.

It runs in two phases. First, the WAL is fetched and replayed as PostgreSQL's own user, who may read
pgBackRest's secrets; during that time no client can connect and no code of an app runs. Then the
cluster is stopped, given to the user of temporary clusters, and started again: from here on an
app's functions may run, and reach neither production nor a secret.

PostgreSQL reports where the recovery ended, and that is compared with the target: a moment that
can't be reached is an error, never replaced by the latest one.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bedstone.core import disk, safe_tree
from bedstone.core.errors import BedstoneError
from bedstone.pitr import recovery
from bedstone.pitr import window as past_window
from bedstone.pitr.window import UnreachableTimeError, text_of
from bedstone.postgres import queries, temporary
from bedstone.postgres.server import Server
from bedstone.wal import fetch, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone.pitr.recovery import Ended
    from bedstone.storage.destinations import Destination
    from bedstone.wal.info import Backup, Info
    from bedstone.wal.stanza import Stanza


class Past(NamedTuple):
    """A cluster of the past.

    Attributes:
        server: where it answers, with all its databases.
        ended_at: when the last transaction that is in it was committed; if the WAL has none after
            the backup that it begins from, when that ended.
        lsn: where in the WAL it ended.

    """

    server: Server
    ended_at: datetime
    lsn: str


class GapError(BedstoneError):
    """The WAL at a destination has a hole, or ends before what is said to be there."""


def _unwatched() -> None:
    return


@contextmanager
def cluster(
    stanza: Stanza,
    destination: Destination,
    place: Path,
    target: datetime | None = None,
    label: str | None = None,
    *,
    reserve_bytes: int = 0,
    watch: Callable[[], None] = _unwatched,
) -> Iterator[Past]:
    """Restore the cluster as of a moment into a temporary cluster, for a block.

    Args:
        stanza: the cluster.
        destination: where its backups and WAL are fetched from.
        place: a directory of :func:`bedstone.core.scratch.place`, removed afterwards.
        target: the moment, with a time zone; None for the last archived transaction.
        label: the backup to begin from; by default the newest one that leads to ``target``.
        reserve_bytes: what has to stay free on the disk of ``place``.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        UnreachableTimeError: there is no way to this moment; names those that can be reached.
        GapError: without ``target``: it ended before the newest WAL at the destination.
        RefusedError: there is no backup, no disk space for it, no such PostgreSQL here.
        BedstoneError: it failed.

    """
    found = stanza.info(destination)
    begin = _begin(stanza, found, destination, target, label)
    disk.require(
        place,
        queries.restored_bytes(begin.original_bytes) + temporary.EMPTY_BYTES,
        reserve_bytes,
        f"The cluster of {destination.name}",
    )
    data, command = recovery.fetched(stanza, destination, place, target, begin.label, watch=watch)
    ended = recovery.recovered(place, data, command, target, watch=watch)
    if ended.ran_out and ended.at == target:
        # PostgreSQL is only sure of a moment when it sees a later one. This is the very last one.
        ended = recovery.recovered(place, data, command, None, watch=watch)
    if (stopped := fetch.failure(ended.failure, destination.name)) is not None:
        raise stopped
    _judge(stanza, found, destination, begin, target, ended, data)
    own, programs = recovery.own_settings(place, data), recovery.programs(data)
    server = _given_away(place, data)
    options = {**temporary.options(place, Path(server.socket)), **own}
    with temporary.started(server, programs, data, place / "log", options, watch=watch):
        yield Past(server, ended.at or begin.finished_at, ended.lsn)


def _begin(
    stanza: Stanza,
    found: Info,
    destination: Destination,
    target: datetime | None,
    label: str | None,
) -> Backup:
    window = past_window.compute(stanza, destination, found)
    if target is not None and target > datetime.now(UTC):
        raise UnreachableTimeError(
            f"{text_of(target)} is in the future: it is {text_of(datetime.now(UTC))} now.",
            hint=window.words(),
        )
    if label is not None:
        chosen = found.backup(label)
    else:
        chosen = found.newest if target is None else found.for_moment(target)
    if chosen is None or (target is not None and chosen.finished_at > target):
        if target is None or not found.backups:
            raise UnreachableTimeError(
                f"There is no backup {label or 'of the cluster'} at {destination.name}"
                f" ({destination.words()}).",
                hint=window.words(),
            )
        begun = chosen or found.backups[0]
        raise UnreachableTimeError(
            f"{destination.name} can't bring the cluster back to {text_of(target)}: its"
            f" {'backup ' + begun.label if chosen else 'oldest backup'} was complete at"
            f" {text_of(begun.finished_at)}.",
            hint=window.words(),
        )
    return chosen


def _judge(
    stanza: Stanza,
    found: Info,
    destination: Destination,
    begin: Backup,
    target: datetime | None,
    ended: Ended,
    data: Path,
) -> None:
    """Raise unless it ended where it should.

    PostgreSQL itself ends with an error when it runs out of WAL before a target, and ends quietly
    at a hole when there is none.
    """
    if target is not None and ended.reached and (ended.at is None or ended.at <= target):
        return
    last = ended.at or begin.finished_at
    missing = past_window.missing(stanza, destination, found, begin)
    if target is not None:
        if ended.failure and not ended.ran_out:
            raise BedstoneError(
                f"The cluster could not be recovered to {text_of(target)}.", details=ended.failure
            )
        later = next((b for b in found.backups if b.finished_at > target), None)
        why = f"the WAL there ends at {text_of(last)}, the time of its last transaction"
        if missing:
            why = f"its WAL has a hole after {text_of(last)} ({', '.join(missing[:3])} is missing)"
        first = text_of(begin.finished_at)
        hint = f"From {begin.label} on, {first} to {text_of(last)} can be reached."
        if later is not None:
            hint += f" Then again from {text_of(later.finished_at)} on."
        earliest = found.backups[0].finished_at
        raise UnreachableTimeError(
            f"{destination.name} can't bring the cluster back to {text_of(target)}: {why}.",
            hint=f"{hint} The earliest moment there is {text_of(earliest)}, the latest"
            f" {'in reach of this backup ' if later else ''}{text_of(last)}.",
            details=ended.failure,
        )
    if ended.failure:
        raise BedstoneError(
            f"The cluster of {destination.name} could not be recovered.", details=ended.failure
        )
    size = recovery.segment_bytes(data)
    newest = found.newest_wal
    if newest is not None and ended.last_segment(size) < segments.number(newest, size):
        raise GapError(
            f"The WAL at {destination.name} leads to {ended.lsn} only ({text_of(last)}), although"
            f" the segment {newest} is there.",
            hint=f"Missing: {', '.join(missing[:5])}. Make a new backup (`bedstone wal full`): it"
            " doesn't need them."
            if missing
            else "A segment is damaged: make a new backup (`bedstone wal full`), which doesn't need"
            " it.",
        )


def _given_away(place: Path, data: Path) -> Server:
    """Give the stopped cluster to the user of temporary clusters."""
    owner = temporary.account()
    socket = place / "socket"
    socket.mkdir(mode=0o700)
    for top in (socket, data.parent):
        for entry in safe_tree.walk(top):
            entry.give(owner.pw_uid, owner.pw_gid)
    return Server(str(socket), temporary.PORT, owner.pw_name)
