"""Restart the workers from the new image."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.apps.limits import START_SLACK_SECONDS, stop_seconds
from bedstone.core import names
from bedstone.release.steps.start import start_units
from bedstone.release.steps.stop import end, killed

if TYPE_CHECKING:
    from bedstone.release.context import Rollout


def workers(rollout: Rollout) -> str:
    """Restart the workers from the new image; each finishes its current tasks first."""
    app, keys = rollout.app, rollout.worker_keys()
    present = slots.keys(app.name)
    rollout.old_workers = {
        key: slots.read(app.name, key) if key in present else None for key in keys
    }
    for key in keys:
        slots.write(app.name, rollout.slot_of(key))
    units = [names.slot_unit(app.name, key) for key in keys]
    began = time.time()
    start_units(rollout, rollout.host.systemd.restart, units, app.workers)
    rollout.host.systemd.enable(units)
    before = [names.slot_unit(app.name, key) for key, slot in rollout.old_workers.items() if slot]
    return f"{', '.join(keys)}{killed(rollout.host, before, began)}"


def undo_workers(rollout: Rollout) -> None:
    """Restart the previous release's workers."""
    app, systemd = rollout.app, rollout.host.systemd
    again: list[str] = []
    new: list[str] = []
    for key, slot in rollout.old_workers.items():
        if slot is None:
            new.append(key)
        else:
            again.append(names.slot_unit(app.name, key))
            slots.write(app.name, slot)
    end(rollout.host, app.name, new, seconds=stop_seconds(app.workers))
    if again:
        # Each is stopped first.
        limit = max(service.stop_seconds for service in app.workers)
        limit += max(service.health_timeout_seconds for service in app.workers)
        systemd.restart(again, timeout=limit + START_SLACK_SECONDS)
