"""Find the pending minor version of PostgreSQL, and since when it is available."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from bedstone.system import apt
from bedstone.upgrade import journal

# So long may a fix wait: a weekend and a quiet evening after it.
MOST_DAYS = 7


@dataclass(frozen=True)
class Waiting:
    """A minor version that could be installed.

    Attributes:
        package: Debian's package of the server.
        installed: its version.
        candidate: the version that waits.
        since: when it was first seen to wait.

    """

    package: str
    installed: str
    candidate: str
    since: datetime

    @property
    def days(self) -> int:
        """Days that it has waited."""
        return max((datetime.now(UTC) - self.since).days, 0)

    @property
    def late(self) -> bool:
        """Return whether it has waited too long."""
        return self.days >= MOST_DAYS


def waiting(major: int) -> Waiting | None:
    """Return the minor version that waits for a cluster's version, or None.

    What is seen first is written down: apt doesn't tell since when it knows a version.
    """
    package = f"postgresql-{major}"
    update = apt.update(package)
    if update is None:
        if journal.recorded("waiting") is not None:
            journal.forget("waiting")
        return None
    key = [package, update.candidate]
    seen = journal.recorded("waiting")
    if seen is None or seen.get("what") != key:
        seen = {"what": key, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        journal.record("waiting", seen)
    return Waiting(
        package, update.installed, update.candidate, datetime.fromisoformat(seen["since"])
    )
