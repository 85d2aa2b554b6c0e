"""Compute what a rebuild has to restore, from what was acknowledged and what was archived.

Each acknowledged write has a place in PostgreSQL's WAL at which it was written already. What the
destination held at the moment of the disaster says up to which place the log can be had. So there
is no doubt about any write: at or before that place it must be there; after it, it is lost. With a
moment to go back to there is none either: what was acknowledged before it must be there, what was
asked for after it must not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SEGMENT_BYTES = 16 * 1024**2
# TIMELINE, LOG, SEGMENT, then pgBackRest's checksum and the compression's suffix.
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}(?:\.[a-z0-9]+)?")
_SHOWN = 8


@dataclass(frozen=True)
class Write:
    """An acknowledged entry.

    Attributes:
        id: its name.
        position: a place in the log at which it was written, in bytes.
        at: when it was acknowledged, in seconds since the epoch.

    """

    id: str
    position: int
    at: float


@dataclass(frozen=True)
class Before:
    """What was, at the moment of the disaster.

    Attributes:
        killed_at: that moment, in seconds since the epoch.
        writes: the acknowledged entries.
        sent: the ids of all entries that were asked for, answered or not.
        due: the ids of those that have to come back.
        undone: the ids of those that must not.
        uploads: digests of the acknowledged uploads.
        backed_up: names of those that were there when the media were backed up.

    """

    killed_at: float
    writes: Sequence[Write]
    sent: Collection[str]
    due: Collection[str]
    undone: Collection[str]
    uploads: Mapping[str, str]
    backed_up: Collection[str]


@dataclass
class Verdict:
    """What came back, and what is wrong with it (empty: nothing)."""

    acknowledged: int
    surviving: int
    lost: int
    lost_seconds: float
    uploads_lost: int
    recovery_point_seconds: float | None
    problems: list[str] = field(default_factory=list)


def position(text: str) -> int:
    """Return the byte in the log that PostgreSQL writes as ``0/3000148``."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def archived_end(names: Iterable[str], segment_bytes: int = SEGMENT_BYTES) -> int:
    """Return up to which byte the log can be had without a gap; 0 when nothing of it is there.

    Args:
        names: of files in an archive of pgBackRest's, of one timeline.
        segment_bytes: the size of the cluster's segments.

    """
    per_log = (1 << 32) // segment_bytes
    numbers = sorted(
        {
            int(found[2], 16) * per_log + int(found[3], 16)
            for name in names
            if (found := _SEGMENT.fullmatch(name))
        }
    )
    if not numbers:
        return 0
    last = numbers[0]
    for number in numbers:
        if number > last + 1:
            break
        last = number
    return (last + 1) * segment_bytes


def archived(writes: Iterable[Write], names: Iterable[str]) -> frozenset[str]:
    """Return the ids of the entries that are in an archive.

    Args:
        writes: the acknowledged entries.
        names: of the files in the archive.

    """
    end = archived_end(names)
    return frozenset(write.id for write in writes if write.position <= end)


def judge(before: Before, entries: Collection[str], uploads: Mapping[str, str]) -> Verdict:
    """Compare what was with what is there after the rebuild.

    Args:
        before: what was.
        entries: the ids that the rebuilt app lists.
        uploads: the digests that it lists.

    """
    there = set(entries)
    surviving = [write for write in before.writes if write.id in there]
    lost = [write for write in before.writes if write.id not in there]
    newest = max((write.at for write in surviving), default=None)
    verdict = Verdict(
        acknowledged=len(before.writes),
        surviving=len(surviving),
        lost=len(lost),
        lost_seconds=before.killed_at - min((write.at for write in lost), default=before.killed_at),
        uploads_lost=sum(name not in uploads for name in before.uploads),
        recovery_point_seconds=None if newest is None else before.killed_at - newest,
    )
    say = verdict.problems.append
    if not before.due:
        say("The destination held nothing at all.")
    if missing := sorted(set(before.due) - there):
        say(f"{len(missing)} entries that were archived are missing: {_some(missing)}")
    if undone := sorted(set(before.undone) & there):
        say(f"{len(undone)} entries are there that came after the moment: {_some(undone)}")
    if strange := sorted(there - set(before.sent)):
        say(f"{len(strange)} entries are there that nobody wrote: {_some(strange)}")
    if gone := sorted(name for name in before.backed_up if name not in uploads):
        say(f"{len(gone)} uploads that were backed up are missing: {_some(gone)}")
    if other := sorted(n for n, d in before.uploads.items() if uploads.get(n, d) != d):
        say(f"{len(other)} uploads aren't what was uploaded: {_some(other)}")
    return verdict


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
