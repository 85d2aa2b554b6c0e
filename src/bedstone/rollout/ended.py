"""The end of slots: nothing of them runs, starts at boot or is known any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import container, slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.rollout.context import Host


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
    units = [slots.unit(app, key) for key in keys]
    host.systemd.stop(units, timeout=seconds)
    host.systemd.disable(units)
    for key in keys:
        slots.remove(app, key)
        service, _, name = key.partition("@")
        # A unit removes its container itself, unless it was killed or Docker was away.
        host.docker.remove(container.name_of(app, service, name))
