"""Check role firewall's arguments and render the rules that they become.

The template of the ruleset holds what never differs. What is declared becomes lines here, each of
which only accepts: a list that is empty opens nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatch
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from bedstone.core import names as host_names
from bedstone_control.roles import docker
from bedstone_control.roles.groups import (
    EVERY_HOST,
    POSTGRESQL,
    POSTGRESQL_REPLICA,
    RABBITMQ,
    REDIS,
)
from bedstone_control.roles.role import Role, Stage
from bedstone_control.roles.role import openings as openings_of
from bedstone_control.settings.published_ports import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bedstone_control.roles.site import Site

SSH = "ansible_port"
# A port of the controller that leads to the server is not the server's own.
FORWARDED = ("127.0.0.1", "::1", "localhost")
_SSH_PORT = (
    f"22 if ansible_host | default('') in {list(FORWARDED)} else ansible_port | default(22) | int"
)
PROTOCOLS = ("tcp", "udp")
LARGEST_PORT = 65535
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
# A packet's own port, or the one that its client asked for before Docker translated it.
PACKET = "{protocol} dport {ports}"
ORIGINAL = "meta l4proto {protocol} ct original proto-dst {ports}"


def firewall_openings(
    openings: Iterable[Mapping[str, Any]],
    argument: str,
    *,
    ssh_port: int | None = None,
    translated: bool = False,
) -> dict[str, list[str]]:
    """Return the rules that accept the declared ports: for `everyone`, and for `networks`.

    The latter are for packets from outside only: a container can send any source address. `limited`
    are rules that send new TCP connections for everyone to the limit for one address.

    Args:
        openings: items with `port`, `protocol` (tcp when not given) and `networks`: where it is
            open to, null for everyone. An empty list opens nothing.
        argument: the role's argument that holds them, for errors.
        ssh_port: the port of ssh, which has rules of its own.
        translated: whether Docker's DNAT comes before the rules: the port is the published one.

    Raises:
        ValueError: a port, a protocol or a network that is none, or ssh's port.

    """
    ports: dict[tuple[str, str], set[int]] = defaultdict(set)
    for opening in openings:
        protocol, port = _protocol(opening, argument), _port(opening, argument)
        if protocol == "tcp" and port == ssh_port:
            raise ValueError(
                f"{argument} has the port {port}, which is ssh's. Who may use ssh stands in "
                "firewall_ssh_networks."
            )
        for source in _from_networks(opening, "saddr", argument):
            ports[protocol, source].add(port)
    form = ORIGINAL if translated else PACKET
    rules: dict[str, list[str]] = {"everyone": [], "networks": [], "limited": []}
    for (protocol, source), found in sorted(ports.items()):
        match = f"{source}{form.format(protocol=protocol, ports=_set(sorted(found)))}"
        rules["networks" if source else "everyone"].append(f"{match} accept")
        if protocol == "tcp" and not source:
            rules["limited"].append(f"{match} jump clients")
    return rules


def firewall_egress(
    destinations: Iterable[Mapping[str, Any]], argument: str = "firewall_container_destinations"
) -> list[str]:
    """Return the rules that accept what containers may connect to outside.

    Args:
        destinations: items with `networks`, null for any address, and with `protocol` and `port`,
            null for all ports.
        argument: the role's argument that holds them, for errors.

    Raises:
        ValueError: a port, a protocol or a network that is none.

    """
    rules = []
    for item in destinations:
        protocol = _protocol(item, argument)
        ports = "0-65535" if item.get("port") is None else str(_port(item, argument))
        rules += [
            f"{target}{protocol} dport {ports} accept"
            for target in _from_networks(item, "daddr", argument)
        ]
    return rules


def firewall_app_egress(
    lists: Iterable[Mapping[str, Any]], resolvers: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the chains of the apps that may connect to listed destinations only.

    Args:
        lists: items with `interface`, that of an app's network, and `destinations` as in
            `firewall_container_destinations`.
        resolvers: the server's DNS servers. Docker asks them from inside a container's network,
            except those on the server itself.

    Returns:
        for each: the interface, the name of its chain, and the rules.

    Raises:
        ValueError: a name that can't be an interface's; a port, a protocol or a network that is
            none.

    """
    asked = [
        {"networks": [one], "port": 53} for one in resolvers if not ip_address(one).is_loopback
    ]
    dns = [{**item, "protocol": protocol} for item in asked for protocol in PROTOCOLS]
    chains = []
    for item in lists:
        interface = str(item["interface"])
        if not _INTERFACE.fullmatch(interface):
            raise ValueError(
                f"firewall_app_egress has the interface {interface!r}, which is no name of one. "
                "Example: br-payments"
            )
        rules = firewall_egress([*dns, *item["destinations"]], "firewall_app_egress")
        chains.append({"interface": interface, "chain": f"egress-{interface}", "rules": rules})
    return chains


def firewall_closed(
    open_ports: Mapping[str, str],
    openings: Iterable[Mapping[str, Any]],
    ssh_port: int,
) -> list[str]:
    """Return the ports that others reach now and can't once the firewall is there.

    Args:
        open_ports: the programs that listen, by port.
        openings: the declared ports.
        ssh_port: the port of ssh, which stays open.

    """
    declared = {str(item["port"]) for item in openings if item.get("protocol", "tcp") == "tcp"}
    closed = sorted(open_ports.keys() - declared - {str(ssh_port)}, key=int)
    return [f"{port} ({open_ports[port]})" for port in closed]


def firewall_matches(networks: Iterable[str], direction: str, argument: str) -> list[str]:
    """Return what matches the addresses of networks: one match for IPv4, one for IPv6.

    Args:
        networks: addresses or networks of both.
        direction: `saddr` or `daddr`.
        argument: the role's argument that holds them, for errors.

    Raises:
        ValueError: one is no network.

    """
    four: list[IPv4Network] = []
    six: list[IPv6Network] = []
    for text in networks:
        try:
            network = ip_network(str(text))
        except ValueError as error:
            raise ValueError(f"{argument}: {error}. Examples: 10.0.0.0/8, fd00::/8.") from None
        if isinstance(network, IPv4Network):
            four.append(network)
        else:
            six.append(network)
    # nft refuses a set whose networks overlap.
    matches = []
    if four:
        matches.append(f"ip {direction} {_set(collapse_addresses(four))}")
    if six:
        matches.append(f"ip6 {direction} {_set(collapse_addresses(six))}")
    return matches


def firewall_ssh_matches(networks: Sequence[str] | None) -> list[str] | None:
    """Return what matches the sources that may use ssh, None for every source.

    Raises:
        ValueError: the list is empty, or one is no network.

    """
    if networks is None:
        return None
    if not networks:
        raise ValueError(
            "firewall_ssh_networks is empty: no one could log in. List the networks of the "
            "operators and of this machine, or leave it out (null) for every address."
        )
    return firewall_matches(networks, "saddr", "firewall_ssh_networks")


def firewall_interfaces(patterns: Sequence[str], uplinks: Iterable[str]) -> str:
    """Return the set of the containers' interfaces.

    Args:
        patterns: names, or beginnings of names with `*`.
        uplinks: the interfaces of the default routes.

    Raises:
        ValueError: a pattern fits an uplink, so that the world would count as a container, or can
            be none.

    """
    for pattern in patterns:
        if not pattern.removesuffix("*") or not set(pattern[:-1]).isdisjoint('*"\\ \n'):
            raise ValueError(
                f"firewall_container_interfaces has {pattern!r}, which is no name of an interface, "
                "nor the beginning of one with `*` at its end. Example: br-*"
            )
        for uplink in uplinks:
            if fnmatch(uplink, pattern):
                raise ValueError(
                    f"firewall_container_interfaces has {pattern!r}, which fits {uplink}, the "
                    "interface of the server's default route: the world would count as a "
                    "container. Name the containers' interfaces more closely."
                )
    if not patterns:
        raise ValueError("firewall_container_interfaces is empty. Docker's are docker0 and br-*.")
    return "{ " + ", ".join(f'"{pattern}"' for pattern in patterns) + " }"


def _from_networks(item: Mapping[str, Any], direction: str, argument: str) -> list[str]:
    """Return how rules of an item begin: with nothing when it is for every address."""
    if (networks := item.get("networks")) is None:
        return [""]
    return [f"{match} " for match in firewall_matches(networks, direction, argument)]


def _set(values: Iterable[object]) -> str:
    return "{ " + ", ".join(str(value) for value in values) + " }"


def _port(item: Mapping[str, Any], argument: str) -> int:
    port = item.get("port")
    try:
        number = int(str(port))
    except ValueError:
        number = 0
    if not 0 < number <= LARGEST_PORT:
        raise ValueError(f"{argument}: {port!r} is no port; it has to be 1 to {LARGEST_PORT}.")
    return number


def _protocol(item: Mapping[str, Any], argument: str) -> str:
    protocol = str(item.get("protocol") or "tcp")
    if protocol not in PROTOCOLS:
        raise ValueError(f"{argument}: {protocol!r} is no protocol here; it is tcp or udp.")
    return protocol


def openings(site: Site) -> list[dict[str, Any]]:
    """Return the ports that are open to everyone, or to networks outside of the host."""
    found = []
    for opening in openings_of(site):
        networks = opening["networks"]
        outside = networks and [each for each in networks if not _is_of_containers(site, each)]
        if opening["variable"] != SSH and (networks is None or outside):
            found.append(_opening(opening, outside))
    return found


def container_openings(site: Site) -> list[dict[str, Any]]:
    """Return the ports that the host's own containers may reach, apart from those for everyone."""
    return [
        _opening(opening, None)
        for opening in openings_of(site)
        if any(_is_of_containers(site, network) for network in opening["networks"] or ())
    ]


def published_ports(site: Site) -> list[dict[str, Any]]:
    """Return the ports that the apps' services publish: open to everyone."""
    if not site.has("app"):
        return []
    published = (
        parse(text)
        for app in site.settings.apps
        for service in app.services.values()
        for text in service.publish
    )
    ports = {
        (port.port, port.protocol)
        for port in published
        if port and not ip_address(port.address.strip("[]")).is_loopback
    }
    return [
        {"port": port, "protocol": protocol, "networks": None} for port, protocol in sorted(ports)
    ]


def app_egress(site: Site) -> list[dict[str, Any]]:
    """Return where the apps with a list of their own may connect to, by their interface.

    Services of other hosts that the app uses belong to it: the operator lists the rest.
    """
    if not site.has("app"):
        return []
    services = [
        {"networks": [address], "protocol": "tcp", "port": None}
        for group in (POSTGRESQL, POSTGRESQL_REPLICA, REDIS, RABBITMQ)
        for host in site.groups.get(group.name, [])
        if (address := site.addresses[host]) != site.addresses[site.host]
    ]
    return [
        {
            "interface": host_names.bridge(app.name),
            "destinations": [*services, *(item.model_dump() for item in app.egress)],
        }
        for app in site.settings.apps
        if app.egress is not None
    ]


def _is_of_containers(site: Site, network: str) -> bool:
    return network in docker.networks(site)


def _opening(opening: Mapping[str, Any], networks: list[str] | None) -> dict[str, Any]:
    return {"port": opening["port"], "protocol": opening["protocol"], "networks": networks}


ROLE = Role(
    name="firewall",
    group=EVERY_HOST,
    stage=Stage.MACHINE,
    arguments={
        "firewall_openings": openings,
        "firewall_published_ports": published_ports,
        "firewall_container_openings": container_openings,
        "firewall_app_egress": app_egress,
    },
    expressions={
        "firewall_ssh_port": _SSH_PORT,
        # All clients of a proxy in front come from its addresses.
        "firewall_unlimited_networks": "nginx_trusted_proxies | default([])",
    },
    variables={"firewall_extra_openings": [], "firewall_ssh_networks": None},
    filters=(
        firewall_app_egress,
        firewall_closed,
        firewall_egress,
        firewall_interfaces,
        firewall_matches,
        firewall_openings,
        firewall_ssh_matches,
    ),
)
