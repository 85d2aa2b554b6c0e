"""Check the new release through nginx."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bedstone.apps import maintenance
from bedstone.core import names
from bedstone.core.errors import BedstoneError
from bedstone.core.process import tail

if TYPE_CHECKING:
    from bedstone.apps.config import Service
    from bedstone.release.context import Rollout
    from bedstone.system import http_check

_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_BAD_REQUEST, _SERVER_ERROR = 400, 500
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
            if is_right(service, path, answer):
                break
            time.sleep(VERIFY_PAUSE_SECONDS)
            answer = rollout.host.front_door(app.main_domain, path, app.https_port)
        if not is_right(service, path, answer):
            unit = names.slot_unit(app.name, f"{service.name}@{rollout.slot}")
            raise BedstoneError(
                f"Through the front door, {answer.said}.",
                hint=_hint(app.main_domain, path, answer),
                details=tail(rollout.host.systemd.journal([unit])),
            )
        said.append(answer.said)
    return "; ".join(said) or "no domain to ask"


def is_right(service: Service, path: str, answer: http_check.Answer) -> bool:
    """Return whether a service has answered as it should.

    The health path answers through nginx what it has to answer anyway. The route alone need not be
    a page, so there all counts that a working app may say.
    """
    if answer.status in service.accept_status:
        return True
    if answer.status is None or path != service.health:
        return answer.ok
    return answer.ok and answer.status in _OK


def _hint(domain: str, path: str, answer: http_check.Answer) -> str:
    declare = (
        f"If {answer.status} is the right answer of {path}, say `accept_status:"
        f" [{answer.status}]`, or give the service a `health` path below its route."
    )
    if answer.status == _BAD_REQUEST:
        return f"Does the app's list of its hosts (Django: ALLOWED_HOSTS) hold {domain}? {declare}"
    if answer.status is not None and answer.status in _REDIRECTS:
        return (
            "An app that redirects to HTTPS has to believe the header X-Forwarded-Proto: Django's"
            f" SECURE_PROXY_SSL_HEADER, or FORWARDED_ALLOW_IPS of gunicorn and uvicorn. {declare}"
        )
    if answer.status is not None and answer.status < _SERVER_ERROR:
        return declare
    return (
        "The service is healthy at its own address; its output, and the line of the request in"
        " /var/log/nginx/access.log, say what differs."
    )


def front_door_path(service: Service) -> str:
    """Return the path to ask for: the health path if it is below the route, else the route."""
    route = service.route or "/"
    if service.health is not None and service.health.startswith(route):
        return service.health
    return route
