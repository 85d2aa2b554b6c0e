"""Check for services that were restarted because they didn't answer any more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.apps import config, liveness
from bedstone.core import names
from bedstone.notify.alarms import Alarm
from bedstone.watch.units import MOST_RESTARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bedstone.apps.liveness import Restart


def gather() -> list[Restart]:
    """Return the restarts of the last hours."""
    return liveness.restarts(datetime.now(UTC))


def judge(found: Sequence[Restart], now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for each service that was restarted; red when that doesn't help."""
    apps = config.declared_parts()
    recent = [entry for entry in found if now - entry.at < liveness.KEPT]
    for unit in sorted({entry.unit for entry in recent}):
        entries = [entry for entry in recent if entry.unit == unit]
        known = names.parse_unit(unit, apps)
        often = f"{len(entries)} times" if len(entries) > 1 else "once"
        yield Alarm(
            f"liveness/{unit}",
            "red" if len(entries) >= MOST_RESTARTS else "warning",
            f"{unit} was restarted {often} in two hours, last at {entries[-1].at:%H:%M:%S} UTC."
            f" {entries[-1].words}",
            f"`journalctl -u {unit} -n 50` shows what it did before",
            known.app if known else None,
        )
