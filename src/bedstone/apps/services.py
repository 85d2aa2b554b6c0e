"""Restart an app's running services."""

from __future__ import annotations

from bedstone.apps import current
from bedstone.apps.limits import START_SLACK_SECONDS
from bedstone.core import names, paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.system.systemd import LIMIT_PROPERTIES, Systemd, is_at_limit


def restart(app: str) -> tuple[str, ...]:
    """Restart an app's services after its data was replaced, and return their units.

    They hold on to connections, caches and the old media directory otherwise. What an operator
    stopped stays stopped.

    Raises:
        BedstoneError: one of them didn't start again.

    """
    units = [names.slot_unit(app, path.stem) for path in sorted(paths.slots(app).glob("*.json"))]
    systemd = Systemd()
    running = [
        unit
        for unit, shown in systemd.properties(units, LIMIT_PROPERTIES).items()
        # One at its limit of restarts has failed with the data that is replaced now.
        if shown.get("ActiveState") == "active" or is_at_limit(shown)
    ]
    if running:
        services = current.load(app).app.services.values()
        limit = max(service.stop_seconds for service in services)
        limit += max(service.health_timeout_seconds for service in services)
        try:
            systemd.restart(running, timeout=limit + START_SLACK_SECONDS)
        except CommandError as error:
            raise BedstoneError(
                f"The data of {app} is restored and in place, but its services didn't start again.",
                hint=f"See `bedstone logs {app}`; maybe its code needs a newer or older schema.",
                details=error.details,
            ) from error
    return tuple(running)
