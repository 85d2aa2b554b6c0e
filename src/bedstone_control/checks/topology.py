"""Check the inventory's groups, the hosts' addresses and the ports."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from bedstone_control.checks.context import readable
from bedstone_control.roles.groups import EVERY_HOST
from bedstone_control.roles.registry import ROLES, groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem
    from bedstone_control.roles.role import Port
    from bedstone_control.settings.root import Settings

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_LARGEST = 65535


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that every part of the settings has a host, and each host its ports."""
    yield from _groups(context, settings)
    for host, variables in context.host_variables.items():
        yield from _ports(context, host, variables)
        address = variables.get("bedstone_address")
        if address is not None and not _is_address(address):
            message = f"Of the host {host}: {address!r} is no IP address."
            yield context.problem(
                ("bedstone_address",), message, {host: {"bedstone_address": "10.0.0.5"}}
            )


def _is_address(text: object) -> bool:
    try:
        ip_address(str(text))
    except ValueError:
        return False
    return True


def _groups(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the groups, which are the topology."""
    wanted = {group.name: group.purpose for group in groups() if group.needed(settings)}
    for group, purpose in wanted.items():
        if not context.groups.get(group):
            message = f"The inventory's group `{group}` has no host; it {purpose}."
            yield of_hosts(context, message, group, {"hosts": {"web1": None}})
    yield from _replicas(context)
    watching = context.groups.get("monitoring", [])
    if watching and settings.metrics is None:
        message = (
            f"{' and '.join(watching)} in the group `monitoring` would collect nothing, and never "
            "alert: the servers give out no metrics."
        )
        yield context.problem(("bedstone_metrics",), message, {"bedstone_metrics": {}})
    hosts = context.groups.get("app", [])
    proxies = context.groups.get("proxy", [])
    for host in hosts:
        if "proxy" in wanted and proxies and host not in proxies:
            message = (
                f"The host {host} runs apps and is not in the group `proxy`: nginx reaches only "
                "the containers of its own host."
            )
            yield of_hosts(context, message, "proxy", {"hosts": {host: None}})
        for group, content in (
            ("postgresql", "databases"),
            ("redis", "Redis instances"),
            ("rabbitmq", "message broker"),
        ):
            servers = context.groups.get(group, [])
            if group in wanted and len(servers) > 1 and host not in servers:
                message = (
                    f"The host {host} could use the {content} of {' or '.join(servers)}: keep one "
                    f"host in the group `{group}`."
                )
                yield of_hosts(context, message, group, {"hosts": {servers[0]: None}})


def _replicas(context: Context) -> Iterator[Problem]:
    """Check that each copy of the databases has one primary, which is another host."""
    copies = context.groups.get("postgresql_replica", [])
    primaries = context.groups.get("postgresql", [])
    if copies and len(primaries) != 1:
        message = (
            f"{' and '.join(copies)} in the group `postgresql_replica` would follow the one host "
            f"of the group `postgresql`, which has {len(primaries) or 'none'}."
        )
        yield of_hosts(context, message, "postgresql", {"hosts": {"db1": None}})
    for host in copies:
        if host in primaries:
            message = (
                f"The host {host} is in the groups `postgresql` and `postgresql_replica`: a copy "
                "of the databases is on another host."
            )
            yield of_hosts(context, message, "postgresql_replica", {"hosts": {"db2": None}})


def of_hosts(context: Context, message: str, group: str, content: dict[str, Any]) -> Problem:
    """Make a problem of the inventory's hosts file."""
    problem = context.problem((), message, {group: content})
    file = readable(context.inventory_directory / "hosts.yml")
    return type(problem)(message, f"group {group}", file, problem.example)


def ports_of(context: Context, host: str) -> list[Port]:
    """Return the ports on which the programs of a host's roles listen."""
    return [
        port
        for role in ROLES
        if role.group == EVERY_HOST or host in context.groups.get(role.group.name, [])
        for port in role.ports
    ]


def _ports(context: Context, host: str, variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that each port of a server belongs to one program."""
    taken: dict[int, str] = {}
    forwarded = str(variables.get("ansible_host", host)) in _LOOPBACK
    for port in ports_of(context, host):
        name, usual = port.variable, port.default
        # A port of this machine that leads to the server is not one of the server's.
        value = usual if name == "ansible_port" and forwarded else variables.get(name, usual)
        example = {name: usual}
        if not str(value).isdigit() or not 0 < int(value) <= _LARGEST:
            message = f"Of the host {host}: {value!r} is no port."
            yield context.problem((name,), message, example)
            continue
        other = taken.setdefault(int(value), name)
        if other != name:
            message = f"On the host {host}, `{name}` and `{other}` are both {value}."
            yield context.problem((name,), message, example)
