"""Start the new slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.apps.limits import START_SLACK_SECONDS, stop_seconds
from bedstone.core import names, reason
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import tail
from bedstone.release.steps.stop import end
from bedstone.system import container_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bedstone.apps.config import Service
    from bedstone.release.context import Rollout


def start(rollout: Rollout) -> str:
    """Start the new slot next to the old one and wait until every service is healthy."""
    app, systemd = rollout.app, rollout.host.systemd
    services, keys = app.http_services, rollout.http_keys()
    units = [names.slot_unit(app.name, key) for key in keys]
    # Whatever a killed release left in this slot: nothing is sent to it.
    systemd.stop(units, timeout=stop_seconds(services))
    for key in keys:
        slots.write(app.name, rollout.slot_of(key))
    start_units(rollout, systemd.start, units, services)
    # At boot both slots start until the release is recorded: nginx finds one.
    systemd.enable(units)
    shown = (s.name if s.replicas == 1 else f"{s.replicas} of {s.name}" for s in services)
    return f"{', '.join(shown)} healthy in slot {rollout.slot}"


def undo_start(rollout: Rollout) -> None:
    """Stop the new slot, unless requests go there still.

    Raises:
        BedstoneError: they do: nginx's configuration could not be reloaded.

    """
    app = rollout.app
    if rollout.taken:
        raise BedstoneError(
            f"nginx still sends requests to slot {rollout.slot}, which therefore runs on."
        )
    end(rollout.host, app.name, rollout.http_keys(), seconds=stop_seconds(app.http_services))


def start_units(
    rollout: Rollout,
    start_them: Callable[..., None],
    units: Sequence[str],
    services: Sequence[Service],
) -> None:
    """Start or restart units, and wait until all are healthy.

    Raises:
        BedstoneError: one of them didn't get healthy; holds what it printed last.

    """
    began = f"@{time.time():.3f}"
    limit = max(service.health_timeout_seconds for service in services)
    limit += max(service.stop_seconds for service in services)
    try:
        start_them(units, timeout=limit + START_SLACK_SECONDS)
    except CommandError as error:
        states = rollout.host.systemd.states(units)
        broken = [name for name in units if name not in states or not states[name].is_active]
        lines = rollout.host.systemd.journal(broken or units, since=began)
        cause = reason.exception(lines)
        raise BedstoneError(
            f"{', '.join(broken or units)} didn't get healthy." + (f" {cause}" if cause else ""),
            hint=container_hints.hint(lines, rollout.uid, rollout.app.capabilities)
            or f"All of its output: `journalctl -u {(broken or list(units))[0]}`.",
            details=tail(lines) or error.details,
        ) from error
