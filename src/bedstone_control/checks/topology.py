"""Check the inventory's groups, the hosts' addresses and the ports."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from bedstone_control.checks.context import readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.root import Settings

# What listens on a server: variable, port when it is not set, group of its hosts.
PORTS = (
    ("ansible_port", 22, "all"),
    ("nginx_http_port", 80, "proxy"),
    ("nginx_https_port", 443, "proxy"),
    ("postgresql_port", 5432, "postgresql"),
)
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
    """Check the groups, which are the topology: `proxy`, `app`, `postgresql`."""
    wanted = {"app": "runs the containers"}
    if any(app.domains for app in settings.apps):
        wanted["proxy"] = "answers for the domains"
    if any(app.database for app in settings.apps):
        wanted["postgresql"] = "keeps the databases"
    for group, purpose in wanted.items():
        if not context.groups.get(group):
            message = f"The inventory's group `{group}` has no host; it {purpose}."
            yield of_hosts(context, message, group, {"hosts": {"web1": None}})
    hosts = context.groups.get("app", [])
    proxies, databases = context.groups.get("proxy", []), context.groups.get("postgresql", [])
    for host in hosts:
        if "proxy" in wanted and proxies and host not in proxies:
            message = (
                f"The host {host} runs apps and is not in the group `proxy`: nginx reaches only "
                "the containers of its own host."
            )
            yield of_hosts(context, message, "proxy", {"hosts": {host: None}})
        if "postgresql" in wanted and len(databases) > 1 and host not in databases:
            message = (
                f"The host {host} could use the databases of {' or '.join(databases)}: keep one "
                "host in the group `postgresql`."
            )
            yield of_hosts(context, message, "postgresql", {"hosts": {databases[0]: None}})


def of_hosts(context: Context, message: str, group: str, content: dict[str, Any]) -> Problem:
    """Make a problem of the inventory's hosts file."""
    problem = context.problem((), message, {group: content})
    file = readable(context.inventory_directory / "hosts.yml")
    return type(problem)(message, f"group {group}", file, problem.example)


def _ports(context: Context, host: str, variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that each port of a server belongs to one program."""
    taken: dict[int, str] = {}
    forwarded = str(variables.get("ansible_host", host)) in _LOOPBACK
    for name, usual, group in PORTS:
        if group != "all" and host not in context.groups.get(group, []):
            continue
        # A port of this machine that leads to the server is not one of the server's.
        port = usual if name == "ansible_port" and forwarded else variables.get(name, usual)
        example = {name: usual}
        if not str(port).isdigit() or not 0 < int(port) <= _LARGEST:
            message = f"Of the host {host}: {port!r} is no port."
            yield context.problem((name,), message, example)
            continue
        other = taken.setdefault(int(port), name)
        if other != name:
            message = f"On the host {host}, `{name}` and `{other}` are both {port}."
            yield context.problem((name,), message, example)
