"""Record the progress of this server's rebuild, so that the next call goes on after a kill.

The cluster is restored next to the empty one; two renames put it in its place. A rebuild that was
killed before them starts again; one that was killed between them is finished; the steps after them
are never done to a cluster that is in use again.

"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core import journal as journal_file
from bedstone.core import paths

if TYPE_CHECKING:
    from typing import Any

# The empty cluster serves still; the recovered one is in its place; it is about to be.
BESIDE = "beside"
SWAPPING = "swapping"
CLUSTER = "cluster"
# Configuration, images and uploads are there, too.
FILES = "files"

BEFORE = ".before_rebuild"
SIDE = ".rebuild"


@dataclass(frozen=True)
class Journal:
    """One rebuild.

    Attributes:
        destination: where it takes everything from.
        target: the moment that was asked for, ISO 8601 in UTC; None for all there is.
        data: the cluster's directory.
        phase: how far it is.
        begun_at: when it began, ISO 8601 in UTC.
        facts: what it found out, for the summary.
        as_of: the moment as of which the destination is read, likewise; None for as it is.

    """

    destination: str
    target: str | None
    data: str
    phase: str
    begun_at: str
    facts: dict[str, Any]
    # A journal of an earlier version has none.
    as_of: str | None = None

    @property
    def side(self) -> Path:
        """Return the directory in which the cluster is recovered."""
        return Path(f"{self.data}{SIDE}")

    @property
    def before(self) -> Path:
        """Return the directory to which the empty cluster is moved."""
        return Path(f"{self.data}{BEFORE}")

    def at(self, phase: str, **facts: Any) -> Journal:
        """Record that it has reached a phase, with its results, and return it so."""
        journal = replace(self, phase=phase, facts={**self.facts, **facts})
        journal.save()
        return journal

    def save(self) -> None:
        """Write it to the disk."""
        journal_file.save(path(), self)


def path() -> Path:
    """Return the journal's file; there is one only during a rebuild."""
    return paths.state() / "rebuild.json"


def begin(
    destination: str, target: datetime | None, data: Path, *, as_of: datetime | None = None
) -> Journal:
    """Record that a rebuild begins, and return its journal."""
    journal = Journal(
        destination=destination,
        target=None if target is None else target.astimezone(UTC).isoformat(),
        data=str(data),
        phase=BESIDE,
        begun_at=datetime.now(UTC).isoformat(timespec="seconds"),
        facts={},
        as_of=None if as_of is None else as_of.astimezone(UTC).isoformat(),
    )
    journal.save()
    return journal


def load() -> Journal | None:
    """Return the journal of a rebuild that isn't through, or None.

    Raises:
        BedstoneError: the file isn't what was written.

    """
    return journal_file.load(
        path(),
        lambda document: Journal(**document),
        of="a rebuild that isn't through",
        hint="It tells how far a rebuild of this server is. If it was through, or none was begun,"
        " remove the file.",
    )


def clear() -> None:
    """Remove it: the rebuild is finished."""
    journal_file.clear(path())
