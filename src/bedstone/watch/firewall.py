"""Check that the firewall's rules are loaded, and are those that were declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.notify.alarms import Alarm
from bedstone.system import firewall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

_SHOWN = 3


def gather() -> list[str]:
    """Return the differences; none on a server without role firewall."""
    return firewall.differences()


def judge(found: Sequence[str], _now: datetime) -> Iterator[Alarm]:
    """Yield one alarm when a rule is missing, was added, or is another one."""
    if not found:
        return
    shown = "; ".join(line.replace("\t", " ").strip() for line in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more lines" if len(found) > _SHOWN else ""
    yield Alarm(
        "firewall/rules",
        "red",
        f"the firewall's rules are not the declared ones: {shown}{more}",
        "`systemctl reload-or-restart bedstone-firewall` loads the confirmed rules; site.yml with"
        " `--tags firewall` the declared ones",
    )
