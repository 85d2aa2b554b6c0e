"""Check the host that verifies the backups of the others: the inventory's group `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.checks.problems import Problem
from bedstone_control.checks.topology import of_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.checks.context import Context
    from bedstone_control.settings.root import Settings

GROUP = "verify"
_EXAMPLE = {"hosts": {"proofs1": None}}


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that the group's host can verify all backups, and that no other has to."""
    hosts, origins = context.groups.get(GROUP, []), context.groups.get("postgresql", [])
    if not hosts:
        return
    if len(hosts) > 1:
        message = (
            f"{' and '.join(hosts)} would both restore all backups each week; keep one of them in "
            "the group."
        )
        yield of_hosts(context, message, GROUP, {"hosts": {hosts[0]: None}})
    for host in hosts:
        if host in origins:
            message = (
                f"The host {host} would prove its own backups. Without a host in this group, each "
                "host of the group `postgresql` does that; here belongs one that has no database."
            )
            yield of_hosts(context, message, GROUP, _EXAMPLE)
    if not origins:
        message = "No host is in the group `postgresql`, so there are no backups to prove."
        yield of_hosts(context, message, GROUP, {"hosts": {}})
        return
    there = settings.backup.destinations
    if not there:
        message = (
            f"{hosts[0]} fetches the backups from a destination alone, and `bedstone_backup` has "
            "none."
        )
        example = {"destinations": [{"name": "offsite", "sftp": {"host": "backup.example.com"}}]}
        yield context.problem(("bedstone_backup", "destinations"), message, example)
    elif settings.backup.point_in_time and not any(each.wal for each in there):
        message = (
            f"The database's log goes to no destination, so {hosts[0]} can't prove it, and nobody "
            "else would. Send it to one, or take the host out of the group `verify`."
        )
        yield context.problem(("bedstone_backup", "destinations", 0, "wal"), message, {"wal": True})


def unlike(host: str, servers: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Return why a host can't restore the clusters of others.

    Args:
        host: the host that verifies.
        servers: of it and of those whose backups it verifies, by name: `release`, Debian's code
            name, and `postgresql`, the major version; those without collected facts are left out.

    """
    if host not in servers:
        return []
    problems = []
    for origin, found in servers.items():
        for name, what in (("release", "Debian {}"), ("postgresql", "PostgreSQL {}")):
            its, own = found[name], servers[host][name]
            if its == own:
                continue
            message = (
                f"It would prove the backups of {origin}, which has {what.format(its)}, and has "
                f"{what.format(own)} itself: a cluster comes back on the very same alone."
            )
            example = (
                f"a host with Debian {its}"
                if name == "release"
                else f'{host}:\n  postgresql_version: "{its}"'
            )
            problems.append(Problem(message, f"server {host}", "hosts.yml, group verify", example))
    return problems
