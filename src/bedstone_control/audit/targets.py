"""Say what a server should answer on the network, by the settings and the inventory."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from bedstone_control.roles import edge, firewall
from bedstone_control.roles.app_config import service_routes
from bedstone_control.roles.nginx import NOSNIFF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App

_HTTPS = 443
_ANY_ANSWER = frozenset(range(100, 500))
_GOOD_ANSWER = frozenset(range(200, 300))


@dataclass(frozen=True)
class Opening:
    """A TCP port that may be open.

    Attributes:
        port: its number.
        networks: the networks that may connect to it, None for everyone.
        required: whether it has to answer those that may connect.

    """

    port: int
    networks: tuple[str, ...] | None = None
    required: bool = True

    def is_for(self, address: str) -> bool:
        """Return whether a client with this address may connect."""
        return self.networks is None or any(
            ip_address(address) in ip_network(network, strict=False) for network in self.networks
        )


@dataclass(frozen=True)
class Health:
    """A path of an app, and the statuses of an app that serves."""

    app: str
    domain: str
    path: str
    statuses: frozenset[int]


@dataclass(frozen=True)
class Target:
    """What one server should answer.

    Attributes:
        host: its name in the inventory.
        address: where the controller reaches it, a name or an address.
        openings: the TCP ports that may be open.
        domains: the domains that it serves; none for a host without a proxy.
        health: the paths that tell whether the apps serve.
        headers: the names of the headers of each answer.
        hsts: whether answers under a public certificate have Strict-Transport-Security.
        http_port: the port of plain HTTP.
        https_port: the port of HTTPS.

    """

    host: str
    address: str
    openings: tuple[Opening, ...]
    domains: tuple[str, ...] = ()
    health: tuple[Health, ...] = ()
    headers: tuple[str, ...] = field(default=(NOSNIFF,))
    hsts: bool = True
    http_port: int = 80
    https_port: int = _HTTPS

    @property
    def https_suffix(self) -> str:
        """Return what a URL has behind the domain."""
        return "" if self.https_port == _HTTPS else f":{self.https_port}"


def target(site: Site, address: str) -> Target:
    """Return what a site's current host should answer."""
    proxied = [app for app in site.settings.apps if app.domains] if site.has("proxy") else []
    declared = site.variables["nginx_security_headers"].items()
    return Target(
        host=site.host,
        address=address,
        openings=tuple(_openings(site, address)),
        # One name stands for all that a wildcard covers.
        domains=tuple(name.replace("*", "audit") for app in proxied for name in app.domains),
        health=tuple(item for app in proxied for item in _health(app)),
        headers=(NOSNIFF, *(name for name, value in declared if value)),
        hsts=int(site.variables["nginx_hsts_seconds"]) > 0,
        http_port=site.port("nginx_http_port"),
        https_port=site.port("nginx_https_port"),
    )


def _openings(site: Site, address: str) -> Iterable[Opening]:
    local = address in firewall.FORWARDED
    ssh = 22 if local else site.port(firewall.SSH)
    yield _opening({"port": ssh, "networks": site.variables["firewall_ssh_networks"]})
    declared = [*firewall.openings(site), *firewall.published_ports(site)]
    yield from (_opening(item) for item in declared if item["protocol"] == "tcp")
    for item in site.variables["firewall_extra_openings"]:
        if item.get("protocol", "tcp") == "tcp":
            # What listens there is not Bedstone's.
            yield _opening(item, required=False)


def _opening(item: Mapping[str, Any], *, required: bool = True) -> Opening:
    networks = item.get("networks")
    return Opening(
        int(item["port"]), None if networks is None else tuple(map(str, networks)), required
    )


def _health(app: App) -> Iterable[Health]:
    domain = app.domains[0].replace("*", "audit")
    for name, route in service_routes(app).items():
        service = app.services[name]
        path = service.health or ""
        inside = f"{path.rstrip('/')}/".startswith(f"{route.rstrip('/')}/") and path != ""
        asked = path if inside else route
        statuses = (_GOOD_ANSWER if inside else _ANY_ANSWER) | set(service.accept_status)
        yield Health(app.name, domain, asked, frozenset(statuses | _refusals(app, asked)))


def _refusals(app: App, path: str) -> set[int]:
    """Return how nginx may refuse a path to this machine: for its login, or for its address."""
    prefixed = [
        {**item.model_dump(), "path": f"{item.path.rstrip('/')}/"} for item in app.edge.paths
    ]
    rules = edge.rules_of(f"{path.rstrip('/')}/", app.edge.model_dump(), prefixed)
    login = {401} if rules["basic_auth"] else set()
    return login | ({403} if rules["allow"] or rules["deny"] else set())


def ports(text: str) -> list[int]:
    """Return the ports of a text such as `1-1024,8080`.

    Raises:
        ValueError: it is none.

    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            bounds = int(first), int(last if dash else first)
        except ValueError:
            bounds = 0, 0
        if not 0 < bounds[0] <= bounds[1] <= firewall.LARGEST_PORT:
            raise ValueError(f"ports: {part.strip()!r} is no port or range. Example: 1-1024,8080.")
        found.update(range(bounds[0], bounds[1] + 1))
    return sorted(found)
