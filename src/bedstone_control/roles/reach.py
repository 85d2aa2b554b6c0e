"""Decide where a service of the host listens, and from where the apps' containers reach it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from bedstone_control.roles import docker
from bedstone_control.roles.groups import APP

if TYPE_CHECKING:
    from bedstone_control.roles.role import Group
    from bedstone_control.roles.site import Site


def clients(site: Site, group: Group) -> list[str]:
    """Return the app hosts that use this host's service.

    An app host that is in the service's group uses its own (`address`).

    Args:
        site: the input of all functions.
        group: the service's group.

    """
    servers = site.groups.get(group.name, [])
    return [
        host for host in site.groups.get(APP.name, []) if host == site.host or host not in servers
    ]


def is_remote(site: Site, group: Group) -> bool:
    """Return whether app hosts use a service of another host, over the network between them."""
    servers = site.groups.get(group.name, [])
    return any(host not in servers for host in site.groups.get(APP.name, []))


def listen_addresses(site: Site, group: Group) -> list[str]:
    """Return where a service listens in addition to localhost: where its clients connect from."""
    addresses = []
    users = clients(site, group)
    if site.host in users:
        addresses.append(docker.bridge_address(site))
    if any(host != site.host for host in users):
        addresses.append(site.addresses[site.host])
    return addresses


def networks(site: Site, group: Group) -> list[str]:
    """Return the networks from which a service is used."""
    found = []
    for host in clients(site, group):
        if host == site.host:
            found += docker.networks(site)
        else:
            address = ipaddress.ip_address(site.addresses[host])
            found.append(f"{address}/{address.max_prefixlen}")
    return sorted(set(found))


def address(site: Site, group: Group) -> str:
    """Return the address under which this host's containers reach a service."""
    servers = site.groups.get(group.name, [])
    if not servers or site.host in servers:
        return docker.bridge_address(site)
    return site.addresses[servers[0]]


def after_units(site: Site) -> list[str]:
    """Return what a service starts after: Docker makes the bridge whose address it listens on."""
    units = ["network-online.target"]
    return [*units, "docker.service"] if site.has(APP.name) else units


def certificate(site: Site, name: str, common_name: str, reload: list[str]) -> dict[str, Any]:
    """Return a service's certificate, in the form of role ca's `ca_certificates`.

    Args:
        site: the input of all functions.
        name: names its files.
        common_name: the name under which containers reach the service.
        reload: the units that reload when it changed.

    """
    answers_to = [common_name, "localhost", site.host, site.addresses[site.host]]
    return {
        "name": name,
        "common_name": common_name,
        "names": list(dict.fromkeys(answers_to)),
        "usage": "server",
        "reload": reload,
    }
