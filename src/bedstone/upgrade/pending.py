"""Find the pending minor version of PostgreSQL, and since when it is available."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from bedstone.core.process import run
from bedstone.upgrade import journal

# So long may a fix wait: a weekend and a quiet evening after it.
MOST_DAYS = 7

_INSTALLED = re.compile(r"^\s*Installed: (\S+)", re.MULTILINE)
_CANDIDATE = re.compile(r"^\s*Candidate: (\S+)", re.MULTILINE)


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
    said = run(["apt-cache", "policy", package], env={"LC_ALL": "C"}, check=False).stdout
    installed, candidate = _INSTALLED.search(said), _CANDIDATE.search(said)
    if installed is None or candidate is None or installed.group(1) == "(none)":
        return None
    if installed.group(1) == candidate.group(1):
        if journal.recorded("waiting") is not None:
            journal.forget("waiting")
        return None
    key = [package, candidate.group(1)]
    seen = journal.recorded("waiting")
    if seen is None or seen.get("what") != key:
        seen = {"what": key, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        journal.record("waiting", seen)
    return Waiting(
        package, installed.group(1), candidate.group(1), datetime.fromisoformat(seen["since"])
    )
