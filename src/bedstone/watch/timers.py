"""Check that Bedstone's own timers wait: what a stopped one should do is missed a day later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.core import paths
from bedstone.notify.alarms import Alarm
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    Timers = Mapping[str, Mapping[str, str]]

_SECONDS = 15.0
_PROPERTIES = ("ActiveState", "UnitFileState")


def gather(manager: Systemd | None = None) -> Timers:
    """Return the states of the timers that the roles have installed, by unit."""
    directory = paths.host("/etc/systemd/system")
    installed = sorted(path.name for path in directory.glob("bedstone-*.timer"))
    return (manager or Systemd()).properties(installed, _PROPERTIES, timeout=_SECONDS)


def judge(found: Timers, now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for each timer that is off; one that a role disabled is meant to be."""
    del now
    for unit, state in found.items():
        if state.get("UnitFileState") == "enabled" and state.get("ActiveState") != "active":
            yield Alarm(
                f"timers/{unit}",
                "red",
                f"{unit} is off ({state.get('ActiveState') or 'unknown'}): what it starts is not"
                " done",
                f"`systemctl start {unit}`; `systemctl status {unit}` shows since when",
            )
