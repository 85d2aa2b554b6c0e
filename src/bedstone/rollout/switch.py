"""New requests to the new slot, and back."""

from __future__ import annotations

from bedstone import files, nginx, paths
from bedstone.config import App
from bedstone.errors import BedstoneError
from bedstone.rollout.context import Rollout, drain_seconds


def switch(rollout: Rollout) -> str:
    """Send new requests to the new slot, of all services at once."""
    app, host = rollout.app, rollout.host
    routed = [service for service in app.http_services if service.route is not None]
    rollout.old_upstreams = nginx.read_upstreams(app.name, [s.name for s in routed])
    rollout.old_static = _current_static(app)
    if rollout.static is not None:
        files.link(paths.served(app.name) / "static" / "current", rollout.id)
    nginx.write_upstreams(app.name, upstreams(app, rollout.addresses))
    host.nginx.test()
    rollout.switched = rollout.taken = True
    try:
        rollout.nginx_workers = host.nginx.reload()
    except BedstoneError:
        # It goes on with the configuration of before.
        rollout.taken = False
        raise
    return f"{', '.join(service.name for service in routed)} to slot {rollout.slot}"


def unswitch(rollout: Rollout) -> None:
    """Send new requests to the old slot again."""
    app, host = rollout.app, rollout.host
    link = paths.served(app.name) / "static" / "current"
    if rollout.old_static is not None:
        files.link(link, rollout.old_static)
    elif link.is_symlink():
        link.unlink()
    nginx.write_upstreams(app.name, rollout.old_upstreams)
    if rollout.switched:
        host.nginx.test()
        # Requests already in the new slot end before it is stopped.
        workers = host.nginx.reload()
        rollout.taken = False
        host.nginx.wait_for_end(workers, drain_seconds(app))


def upstreams(app: App, addresses: dict[str, str]) -> dict[str, str | None]:
    """Return nginx's files for the services that have a route."""
    return {
        service.name: nginx.upstream(app.name, service.name, addresses[service.name], service.port)
        for service in app.http_services
        if service.route is not None and service.port is not None
    }


def _current_static(app: App) -> str | None:
    link = paths.served(app.name) / "static" / "current"
    return str(link.readlink()) if link.is_symlink() else None
