"""A look through the front door."""

from __future__ import annotations

import time

from bedstone import maintenance, slots
from bedstone.config import Service
from bedstone.errors import BedstoneError
from bedstone.rollout.context import Rollout
from bedstone.run import tail

VERIFY_ATTEMPTS = 3
VERIFY_PAUSE_SECONDS = 1.0


def verify(rollout: Rollout) -> str:
    """Ask every routed service through nginx, over TLS, as a visitor would."""
    app = rollout.app
    if maintenance.is_on(app.name):
        return "maintenance is on: nginx shows its page, and asks nobody"
    said = []
    for service in app.http_services:
        if service.route is None or app.main_domain is None:
            continue
        path = front_door_path(service)
        answer = rollout.host.front_door(app.main_domain, path, app.https_port)
        for _ in range(VERIFY_ATTEMPTS - 1):
            if answer.ok:
                break
            time.sleep(VERIFY_PAUSE_SECONDS)
            answer = rollout.host.front_door(app.main_domain, path, app.https_port)
        if not answer.ok:
            unit = slots.unit(app.name, f"{service.name}@{rollout.slot}")
            raise BedstoneError(
                f"Through the front door, {answer.said}.",
                hint="The service is healthy at its own address; /var/log/nginx/error.log and the"
                " lines above say what differs.",
                details=tail(rollout.host.systemd.journal([unit])),
            )
        said.append(answer.said)
    return "; ".join(said) or "no domain to ask"


def front_door_path(service: Service) -> str:
    """Return the path to ask for: the health path if it is below the route, else the route."""
    route = service.route or "/"
    if service.health is not None and service.health.startswith(route):
        return service.health
    return route
