"""Show an app's services: systemd's state of each, and its readiness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bedstone.apps import slots
from bedstone.core import names
from bedstone.core.errors import BedstoneError
from bedstone.system import http_check, systemd

if TYPE_CHECKING:
    from collections.abc import Hashable

    from bedstone.apps.config import Service
    from bedstone.apps.current import Current
    from bedstone.system.systemd import Systemd

PROBE_SECONDS = 3.0
_PROPERTIES = ("ActiveState", "SubState", "Result", "NRestarts", "ActiveEnterTimestamp")

# Address, service, domain -> what the service answered.
Asks = Callable[[str, "Service", str], http_check.Answer]


def ask(address: str, service: Service, domain: str) -> http_check.Answer:
    """Ask a service whether it is healthy, as its supervisor does when it starts."""
    if service.port is None:
        raise ValueError(service.name)
    if service.health is None:
        return http_check.port(address, service.port, seconds=PROBE_SECONDS)
    return http_check.service(
        address,
        service.port,
        service.health,
        domain,
        accepted=service.accept_status,
        seconds=PROBE_SECONDS,
    )


def tasks(
    found: Current, manager: Systemd, asks: Asks, seconds: float
) -> dict[Hashable, Callable[[], Any]]:
    """Return what to ask of the services of a release that serves."""
    name = found.app.name
    units = [names.slot_unit(name, key) for key in found.slot_keys()]
    wanted: dict[Hashable, Callable[[], Any]] = {
        ("units", name): lambda: manager.properties(units, _PROPERTIES, timeout=seconds)
    }
    for service in found.app.http_services:
        for key in service.keys(found.slot):
            wanted["health", name, key] = _question(found, service, key, asks)
    return wanted


def _question(
    found: Current, service: Service, key: str, asks: Asks
) -> Callable[[], http_check.Answer]:
    def question() -> http_check.Answer:
        try:
            slot = slots.read(found.app.name, key)
        except BedstoneError as error:
            return http_check.Answer(ok=False, said=error.message)
        domain = found.app.main_domain or "localhost"
        return asks(slot.address or "127.0.0.1", service, domain)

    return question


def as_json(found: Current, answers: dict[Hashable, Any]) -> list[dict[str, Any]]:
    """Return each slot of a release that serves, HTTP services first."""
    name = found.app.name
    units = answers.get(("units", name)) or {}
    shown = []
    for key in found.slot_keys():
        service = found.app.services[key.partition("@")[0]]
        unit = names.slot_unit(name, key)
        state = units.get(unit, {})
        runs = state.get("ActiveState") == "active"
        health = None
        if service.is_http and runs:
            answer = answers.get(("health", name, key)) or http_check.Answer(
                ok=False, said="it didn't answer in time"
            )
            health = {"ok": answer.ok, "said": answer.said}
        since = systemd.moment(state.get("ActiveEnterTimestamp"))
        shown.append(
            {
                "service": key,
                "unit": unit,
                "ok": runs and (health is None or health["ok"]),
                "state": f"{state['ActiveState']} ({state.get('SubState', '')})"
                if state.get("ActiveState")
                else "unknown",
                "result": state.get("Result") or None,
                "restarts": int(state.get("NRestarts") or 0),
                "since": since.isoformat(timespec="seconds") if since else None,
                "health": health,
            }
        )
    return shown


def problems(shown: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is wrong with services, a few words each."""
    said = []
    for service in shown:
        if not service["ok"]:
            why = service["health"]["said"] if service["health"] else service["state"]
            what = "isn't healthy" if service["health"] else "doesn't run"
            said.append(f"{service['service']} {what}: {why}")
    return said
