"""Describe a role to the controller: one object, from which all that depends on roles is derived.

Each module `roles/<role>.py` ends with its `ROLE`; roles/registry.py lists them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from bedstone_control.vault.ssh_keys import make_private_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings


class Stage(IntEnum):
    """When a role is applied, and so what a rebuild does with it."""

    MACHINE = 1  # before any data: a rebuild applies it to the bare server
    DATA = 2  # keeps data: rebuild.yml restores it between the stages before and after
    FRONT = 3  # after the data
    RELEASE = 4  # by deploy.yml alone


@dataclass(frozen=True)
class Group:
    """A group of the inventory: the hosts of a role.

    Attributes:
        name: its name in hosts.yml.
        purpose: what its hosts do, after "it": "keeps the databases".
        needed: whether settings need a host in it.

    """

    name: str
    purpose: str
    needed: Callable[[Settings], bool]


def public(_site: Site) -> list[str] | None:
    """Return the reach of a port that everyone may connect to."""
    return None


def local(_site: Site) -> list[str] | None:
    """Return the reach of a port that only its own host connects to."""
    return []


@dataclass(frozen=True)
class Port:
    """A port on which a role's program listens.

    Attributes:
        variable: the role's argument that sets it.
        default: the port when it is not set.
        purpose: what it serves.
        programs: the names of the processes that may listen on it.
        reach: the networks that may connect to it on a host, None for everyone; `public`, `local`
            or a function of the role's own.
        protocol: `tcp` or `udp`.

    """

    variable: str
    default: int
    purpose: str
    programs: tuple[str, ...]
    reach: Callable[[Site], list[str] | None] = public
    protocol: str = "tcp"


@dataclass(frozen=True)
class FurtherPort:
    """A port that follows from the settings.

    Attributes:
        purpose: what listens there: "redis of shop".
        port: the port.
        networks: the networks that may connect to it on a host, None for everyone.
        protocol: `tcp` or `udp`.

    """

    purpose: str
    port: int
    networks: list[str] | None
    protocol: str = "tcp"


@dataclass(frozen=True)
class Rotation:
    """How a secret is replaced while the servers work.

    Attributes:
        kind: whose life it has in the settings: `passwords`, `keys` or `own`.
        overlap: why nothing fails until site.yml has brought the new one to the servers.

    """

    kind: str
    overlap: str = "running containers keep the previous one until their release"


# What only the operator knows, and the other side gave.
OWN = Rotation("own", overlap="the other side has to accept both until the playbook has ended")
SSH_KEY = Rotation(
    "keys", overlap="the account there has to accept both keys until the playbook has ended"
)


@dataclass(frozen=True)
class Secret:
    """A secret that settings need in the vault.

    Attributes:
        place: the keys that lead to it, below `bedstone_secrets`.
        purpose: what it is for.
        make: makes it, given the inventory's name; None for one that only the operator knows.
        least: the characters that a strong one has at least, where its length can be judged.
        rotation: how it is replaced.
        keeps_previous: whether its previous value is offered as well, so that the vault keeps it.

    """

    place: tuple[str, ...]
    purpose: str
    make: Callable[[str], Any] | None = None
    least: int | None = None
    rotation: Rotation = OWN
    keeps_previous: bool = False


def ssh_key(_inventory: str) -> str:
    """Make a private ssh key."""
    return make_private_key()


def token(size: int) -> Callable[[str], str]:
    """Return a function that makes a password of so many random bytes."""
    return lambda _inventory: secrets.token_urlsafe(size)


@dataclass(frozen=True)
class Placeholder:
    """A placeholder in an app's environment and files.

    Attributes:
        purpose: what it stands for.
        secret: whether that is or contains a secret.
        login: whether that changes with a password, as the name of a login does.

    """

    purpose: str
    secret: bool = False
    login: bool = False


@dataclass(frozen=True)
class Offer:
    """What a role offers to the apps that use it.

    Attributes:
        needs: what an app has that uses it, as in "needs a database".
        setting: an example of the setting that asks for it.
        used_by: whether an app uses it.
        placeholders: its placeholders by name.
        variables: the variables that the app gets by default, with placeholders.
        values: the placeholders' values for an app, and whether for its migrations.
        hosts: names that the app's containers resolve, with their addresses.

    """

    needs: str
    setting: Mapping[str, Any]
    used_by: Callable[[App], bool]
    placeholders: Mapping[str, Placeholder]
    variables: Mapping[str, str]
    values: Callable[[Site, App, bool], Mapping[str, str]]
    hosts: Callable[[Site], Mapping[str, str]] = lambda _site: {}


def no_ports(_site: Site) -> Iterable[FurtherPort]:
    """Return the further ports of a role that has none."""
    return ()


def no_certificates(_site: Site) -> Iterable[Mapping[str, Any]]:
    """Return the certificates of a role that needs none."""
    return ()


def no_targets(_site: Site, _host: str) -> Iterable[Mapping[str, Any]]:
    """Return the targets of a role whose programs Prometheus asks for nothing."""
    return ()


def no_secrets(_settings: Settings) -> Iterable[Secret]:
    """Return the secrets of a role that needs none."""
    return ()


@dataclass(frozen=True)
class Role:
    """A role.

    Attributes:
        name: the name of its folder, and the prefix of its arguments.
        group: the hosts that get it.
        stage: when it is applied.
        arguments: the arguments that follow from settings, secrets and topology, each with its
            function. All are computed once in a run (roles/arguments.py).
        expressions: arguments that follow from other variables of Ansible's, as expressions that
            Ansible evaluates where they are used.
        variables: arguments set in the inventory that the controller reads, with the role's
            defaults; ports are read in any case.
        ports: where its programs listen.
        further_ports: the ports that follow from the settings: one for each instance, say.
        certificates: what its programs on a host need, in the form of role ca's
            `ca_certificates`.
        secrets: the secrets that settings need for it.
        offers: what it offers to apps; one for each part that an app may use or not.
        targets: what Prometheus scrapes of a host of the inventory, in the form of role
            prometheus's `prometheus_targets` without `host` and `tls`: it is over TLS.
        filters: the functions that its tasks call as filters, by their own names.

    """

    name: str
    group: Group
    stage: Stage
    arguments: Mapping[str, Callable[[Site], Any]] = field(default_factory=dict)
    expressions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    further_ports: Callable[[Site], Iterable[FurtherPort]] = no_ports
    certificates: Callable[[Site], Iterable[Mapping[str, Any]]] = no_certificates
    secrets: Callable[[Settings], Iterable[Secret]] = no_secrets
    offers: tuple[Offer, ...] = ()
    targets: Callable[[Site, str], Iterable[Mapping[str, Any]]] = no_targets
    filters: tuple[Callable[..., Any], ...] = ()


def defaults(roles: Iterable[Role]) -> dict[str, Any]:
    """Return the variables that the controller reads of each host, with their defaults."""
    found: dict[str, Any] = {}
    for role in roles:
        found |= {port.variable: port.default for port in role.ports} | dict(role.variables)
    return found


def openings(site: Site) -> list[dict[str, Any]]:
    """Return the ports on which others may reach a host, each with the networks that may.

    Of each: `variable` (what sets it, or its purpose), `port`, `protocol` and `networks` (None for
    everyone).
    """
    found: list[tuple[str, int, str, list[str] | None]] = []
    for role in site.roles:
        if site.has(role.group.name):
            found += [
                (port.variable, site.port(port.variable), port.protocol, port.reach(site))
                for port in role.ports
            ]
            found += [
                (port.purpose, port.port, port.protocol, port.networks)
                for port in role.further_ports(site)
            ]
    return [
        {"variable": variable, "port": port, "protocol": protocol, "networks": networks}
        for variable, port, protocol, networks in found
        if networks is None or networks
    ]
