"""Route new requests to the new slot, and undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.apps import network
from bedstone.apps.limits import drain_seconds
from bedstone.core import files, paths
from bedstone.core.names import HTTP_SLOTS
from bedstone.system import nginx

if TYPE_CHECKING:
    from bedstone.apps.config import App
    from bedstone.release.context import Rollout


def switch(rollout: Rollout) -> str:
    """Send new requests to the new slot, of all services at once."""
    app, host = rollout.app, rollout.host
    routed = ", ".join(s.name for s in app.http_services if s.route is not None)
    rollout.old_slot = nginx.linked(app.name)
    if rollout.old_slot is None and rollout.old is not None:
        # A server whose nginx was set up before there were links.
        rollout.old_slot = rollout.old.slot
    rollout.old_static = _current_static(app)
    # Not needed for the switch, but a configuration that nginx can't take is found now and not
    # when the server starts the next time.
    host.nginx.test()
    if rollout.static is not None:
        files.link(paths.served(app.name) / "static" / "current", rollout.id)
    rollout.taken = True
    reloaded = host.nginx.lead(app.name, rollout.slot, servers(app), drain_seconds(app))
    return f"{routed} to slot {rollout.slot}" + (", nginx reloaded" if reloaded else "")


def undo_switch(rollout: Rollout) -> None:
    """Send new requests to the old slot again."""
    app, host = rollout.app, rollout.host
    link = paths.served(app.name) / "static" / "current"
    if rollout.old_static is not None:
        files.link(link, rollout.old_static)
    elif link.is_symlink():
        link.unlink()
    if rollout.taken:
        host.nginx.lead(app.name, rollout.old_slot, servers(app), drain_seconds(app))
        rollout.taken = False
        # Requests already in the new slot end before it is stopped.
        host.nginx.wait_until_drained(list(rollout.addresses.values()), drain_seconds(app))


def servers(app: App) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return where the replicas of each service with a route answer, in both slots."""
    subnet = network.subnet(app.name)
    if subnet is None:
        return {}
    return {
        service.name: {
            slot: tuple(
                f"{network.address(app.name, key, subnet)}:{service.port}"
                for key in service.keys(slot)
            )
            for slot in HTTP_SLOTS
        }
        for service in app.http_services
        if service.route is not None
    }


def _current_static(app: App) -> str | None:
    link = paths.served(app.name) / "static" / "current"
    return str(link.readlink()) if link.is_symlink() else None
