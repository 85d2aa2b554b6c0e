"""Decide what a load test sends, and where: to an app of an inventory and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control.pki import rotation
from bedstone_control.roles.firewall import FORWARDED
from bedstone_control.roles.groups import PROXY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App

MOST_RATE = 1000
MOST_SECONDS = 3600
_HTTPS = 443
# Of headers that a client makes itself, or that lead elsewhere.
_OWN_HEADERS = {"host", "content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True)
class Plan:
    """The requests of a load test.

    Attributes:
        app: whose.
        domain: the name that is asked for.
        addresses: those of the hosts that serve it, which get the connections in turns.
        port: of HTTPS.
        paths: asked for in turns.
        rate: requests a second, however fast the answers come.
        seconds: for how long.
        data: sent by POST as a form; with None, requests are GET.
        headers: further ones, which may hold secrets.

    """

    app: str
    domain: str
    addresses: tuple[str, ...]
    port: int
    paths: tuple[str, ...]
    rate: int
    seconds: int
    data: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def requests(self) -> int:
        """Return how many requests are sent."""
        return self.rate * self.seconds

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        port = "" if self.port == _HTTPS else f":{self.port}"
        return f"https://{self.domain}{port}{path}"

    def words(self) -> str:
        """Return what is sent, in a line."""
        way = "GET" if self.data is None else "POST"
        return (
            f"{self.requests} requests ({way}, {self.rate} a second for {self.seconds} s) to "
            f"{', '.join(self.url(path) for path in self.paths)} at {', '.join(self.addresses)}"
        )


def plan(
    site: Site,
    reached: Mapping[str, str],
    *,
    app: str | None,
    paths: Sequence[str],
    rate: int,
    seconds: int,
    data: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan for an app of an inventory.

    Args:
        site: the inventory.
        reached: where this machine reaches each of its hosts.
        app: its name; not needed where there is one.
        paths: default: the health paths of its services that have a port.
        rate: requests a second.
        seconds: for how long.
        data: of POST requests.
        headers: further ones.

    Raises:
        ValueError: there is no such app or domain, or a value is out of range.

    """
    found = _app(site, app)
    _check_range("--rate", rate, MOST_RATE)
    _check_range("--seconds", seconds, MOST_SECONDS)
    for path in paths:
        if not path.startswith("/") or path.startswith("//") or not path.isprintable():
            raise ValueError(f"{path!r} is not a path of the app. Example: --path /health/")
    if own := sorted(name for name in headers or {} if name.lower() in _OWN_HEADERS):
        raise ValueError(f"The header {own[0]} is the client's own, and can't be set.")
    domain = next((name for name in found.domains if "*" not in name), None)
    hosts = site.groups.get(PROXY.name) or []
    if domain is None or not hosts:
        raise ValueError(f"{found.name} has no domain, or no host in the group `{PROXY.name}`.")
    addresses = tuple(reached[host] for host in hosts)
    if forwarded := sorted({*addresses} & {*FORWARDED}):
        raise ValueError(
            f"{forwarded[0]} is a port of this machine that leads to the server: HTTPS at this"
            " address is this machine's own. Give the server's address as `ansible_host`."
        )
    return Plan(
        app=found.name,
        domain=domain,
        addresses=addresses,
        port=site.port("nginx_https_port"),
        paths=tuple(paths) or _health_paths(found),
        rate=rate,
        seconds=seconds,
        data=data,
        headers=headers or {},
    )


def _app(site: Site, name: str | None) -> App:
    apps = {app.name: app for app in site.settings.apps}
    names = ", ".join(apps)
    if name is None and len(apps) > 1:
        raise ValueError(f"Name the app: this inventory has {names}.")
    if name is not None and name not in apps:
        raise ValueError(f"There is no app {name} in this inventory. It has {names}.")
    return apps[name] if name is not None else next(iter(apps.values()))


def _health_paths(app: App) -> tuple[str, ...]:
    found = dict.fromkeys(
        service.health for service in app.services.values() if service.port and service.health
    )
    return tuple(found) or ("/",)


def _check_range(option: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{option} is {value}: give a number from 1 to {most}.")


def headers_of(text: str) -> dict[str, str]:
    """Return the headers of a file: `Name: value`, one a line.

    Raises:
        ValueError: a line is no header; the line itself isn't shown.

    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not name.replace("-", "").isalnum() or not value.strip().isprintable():
            raise ValueError(f"Line {number} of the headers is not `Name: value`.")
        found[name] = value.strip()
    return found


def authorities(vault: Mapping[str, Any]) -> list[str]:
    """Return the authority of an inventory's vault, and the next one while it is replaced."""
    held = (vault.get("bedstone_secrets") or {}).get("ca") or {}
    return [held["certificate"], *rotation.also_trusted(held)] if held else []


def form_of(given: str | None) -> str | None:
    """Return the form to send: what is given, or after `@` the content of that file."""
    if given is None or not given.startswith("@"):
        return given
    return Path(given[1:]).read_text(encoding="utf-8").rstrip("\r\n")
