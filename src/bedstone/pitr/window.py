"""Find the recovery window of a destination."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.wal import segments as pgbackrest_wal

if TYPE_CHECKING:
    from bedstone.storage.destinations import Destination
    from bedstone.wal.info import Backup, Info
    from bedstone.wal.stanza import Stanza


class UnreachableTimeError(RefusedError):
    """There is no way to this moment; the hint names the earliest and the latest possible one."""


@dataclass(frozen=True)
class Window:
    """From when to when.

    Attributes:
        destination: where.
        earliest: when the present cluster's oldest backup was complete; None without a backup.
        latest: when the newest WAL arrived: nothing that was committed later is there; None when
            that isn't known.
        holes: segments that are missing since the oldest backup.
        former: the earliest moment of the cluster before an upgrade, if a backup of it is left.

    """

    destination: str
    earliest: datetime | None
    latest: datetime | None
    holes: tuple[str, ...] = ()
    former: datetime | None = None

    def words(self) -> str:
        """Return it as a sentence."""
        if self.earliest is None:
            return (
                f"{self.destination} has no backup of the cluster: make one by `bedstone wal full`."
                f"{self._former()}"
            )
        until = "the last archived WAL" if self.latest is None else f"about {text_of(self.latest)}"
        text = (
            f"{self.destination} can bring back every moment from {text_of(self.earliest)} (the"
            f" earliest) to {until} (the latest)."
        )
        if self.holes:
            text += f" But WAL is missing in between: {', '.join(self.holes[:3])}."
        return f"{text}{self._former()}"

    def _former(self) -> str:
        if self.former is None:
            return ""
        return (
            f" From {text_of(self.former)} on it has the cluster before PostgreSQL's upgrade, which"
            " takes that version's programs."
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "destination": self.destination,
            "earliest": self.earliest.isoformat() if self.earliest else None,
            "latest": self.latest.isoformat() if self.latest else None,
            "missing": list(self.holes),
            "former": self.former.isoformat() if self.former else None,
        }


def compute(stanza: Stanza, destination: Destination, found: Info | None = None) -> Window:
    """Return the recovery window of a destination.

    Args:
        stanza: the cluster.
        destination: where.
        found: what is there, if that is known.

    Raises:
        BedstoneError: the destination can't be asked.

    """
    found = found or stanza.info(destination)
    oldest = next(iter(found.own), None)
    former = next((each.finished_at for each in found.backups if not found.is_own(each)), None)
    if oldest is None:
        return Window(destination.name, None, None, former=former)
    segments = _segments(stanza, destination, found)
    newest = max((arrived for _, arrived in segments), default=None)
    return Window(
        destination.name,
        oldest.finished_at,
        newest,
        pgbackrest_wal.missing([name for name, _ in segments], oldest.wal[0]) if segments else (),
        former,
    )


def missing(
    stanza: Stanza, destination: Destination, found: Info, since: Backup
) -> tuple[str, ...]:
    """Return the segments that a destination lacks since a backup; none when it can't be asked."""
    if not found.is_own(since):
        return ()
    names = [name for name, _ in _segments(stanza, destination, found)]
    return pgbackrest_wal.missing(names, since.wal[0]) if names else ()


def _segments(stanza: Stanza, destination: Destination, found: Info) -> list[tuple[str, datetime]]:
    if found.archive is None:
        return []
    try:
        listed = stanza.segments(destination, found.archive)
    except BedstoneError:
        # It is only to say more precisely what can be reached.
        return []
    return [(segment.name, segment.arrived_at) for segment in listed]


def text_of(moment: datetime) -> str:
    """Return a moment as text, in UTC, as exact as it is."""
    text = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    return f"{text} UTC"
