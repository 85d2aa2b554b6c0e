"""Record which services were restarted because they didn't answer any more.

container_watch appends a line to a file of the unit in /run: it is about this boot alone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from bedstone.core import files, names, paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bedstone.apps.config import Liveness

KEPT = timedelta(hours=2)
# Restarts within this time make the next one wait longer; no longer than the second.
_BACKOFF_SPAN = timedelta(hours=1)
_LONGEST_WAIT_SECONDS = 600


class Restart(NamedTuple):
    """A restart: of which unit, when, and why."""

    unit: str
    at: datetime
    words: str


def record(app: str, key: str) -> Path:
    """Return the file with the restarts of ``SERVICE@SLOT``."""
    return _directory() / names.slot_unit(app, key)


def restarts(now: datetime) -> list[Restart]:
    """Return the restarts of all services in the last two hours, the oldest first."""
    found = [entry for path in sorted(_directory().glob("*.service")) for entry in _read(path)]
    return sorted((entry for entry in found if now - entry.at <= KEPT), key=lambda one: one.at)


def prune(app: str, key: str, now: datetime) -> list[Restart]:
    """Forget the restarts of a slot that are older; return the others."""
    path = record(app, key)
    paths.ensure_private(path.parent)
    kept = [entry for entry in _read(path) if now - entry.at <= KEPT]
    text = "".join(f"{entry.at.timestamp():.0f} {entry.words}\n" for entry in kept)
    files.write(path, text, mode=0o600)
    return kept


def failures(liveness: Liveness, before: list[Restart], now: datetime) -> int:
    """Return how many probes in a row have to fail before the next restart.

    A restart that doesn't help is no cure: with each one the time until the next doubles, up to
    ten minutes.
    """
    recent = sum(now - entry.at <= _BACKOFF_SPAN for entry in before)
    longest = max(liveness.failures, _LONGEST_WAIT_SECONDS // liveness.every_seconds)
    return int(min(liveness.failures * 2**recent, longest))


def _directory() -> Path:
    return paths.runtime() / "liveness"


def _read(path: Path) -> Iterator[Restart]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        seconds, _, words = line.partition(" ")
        if seconds.isdigit():
            yield Restart(path.name, datetime.fromtimestamp(int(seconds), UTC), words)
