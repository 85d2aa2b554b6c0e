"""Stop slots: their containers, their start at boot and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.core import names
from bedstone.system.container_watch import KILLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.system.host import Host


def killed(host: Host, units: Sequence[str], since: float) -> str:
    """Return what to add to a step in which units stopped: which had to be killed, and why.

    Args:
        host: the server.
        units: what stopped.
        since: when that began, seconds since 1970.

    """
    found = []
    for unit in units:
        lines = host.systemd.journal([unit], lines=200, since=f"@{since:.3f}").splitlines()
        words = next((line for line in reversed(lines) if line.startswith(KILLED)), None)
        if words is not None:
            found.append(f"; {unit}: {words}")
    return "".join(found)


def end(host: Host, app: str, keys: Sequence[str], *, seconds: float | None) -> None:
    """Stop slots and forget them.

    Args:
        host: the server.
        app: whose they are.
        keys: ``SERVICE@SLOT`` of each.
        seconds: how long that may take; None for as long as systemd gives each unit.

    Raises:
        CommandError: one of them still runs.

    """
    units = [names.slot_unit(app, key) for key in keys]
    host.systemd.stop(units, timeout=seconds)
    host.systemd.disable(units)
    parts = [key.partition("@") for key in keys]
    # A unit removes its container itself, unless it was killed or Docker was away.
    host.docker.remove(*(names.slot_container(app, service, name) for service, _, name in parts))
    for key in keys:
        slots.remove(app, key)
