"""Compute PostgreSQL's memory settings from the host's size, and pg_hba.conf's lines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

MIN_CONNECTIONS, MANY_CONNECTIONS = 50, 100
SMALL_SERVER_MB = 1024
# Sorts and hashes may each take work_mem; a usual query has a few.
WORK_MEM_PER_CONNECTION = 3


def nominal_memory_mb(memory_mb: int) -> int:
    """Return the size a host was sold with, from what its kernel leaves.

    The kernel keeps a few percent, and another kernel keeps some MB more or less: rounded up to
    an eighth of the next lower power of two, the settings stay the same and no kernel update
    restarts PostgreSQL.

    Args:
        memory_mb: the kernel's MemTotal, in MiB.

    """
    step = max(1 << (memory_mb.bit_length() - 4), 32)
    return -(-memory_mb // step) * step


def postgresql_memory(
    memory_mb: int, share_percent: int = 50, max_connections: int | None = None
) -> dict[str, str]:
    """Return PostgreSQL's memory and WAL settings for a host of a size.

    Args:
        memory_mb: the host's memory, in MiB.
        share_percent: how much of it PostgreSQL may count on; the rest is the apps'.
        max_connections: None for 50 on a small server, else 100.

    Raises:
        ValueError: a number is out of range.

    """
    if not 10 <= share_percent <= 100:  # noqa: PLR2004
        raise ValueError(f"postgresql_memory_share_percent is {share_percent}; use 10 to 100")
    if max_connections is not None and not 10 <= max_connections <= 10000:  # noqa: PLR2004
        raise ValueError(f"postgresql_max_connections is {max_connections}; use 10 to 10000")
    if memory_mb < 256:  # noqa: PLR2004
        raise ValueError(
            f"{memory_mb} MB of memory are too little for PostgreSQL; 256 is the least"
        )
    budget = nominal_memory_mb(memory_mb) * share_percent // 100
    connections = max_connections or (
        MIN_CONNECTIONS if budget < SMALL_SERVER_MB else MANY_CONNECTIONS
    )
    buffers = max(budget // 4, 64)
    work_mem = _between(4, (budget - buffers) // (connections * WORK_MEM_PER_CONNECTION), 64)
    wal = _between(512, budget // 2, 4096)
    return {
        "max_connections": str(connections),
        "shared_buffers": f"{buffers}MB",
        # What the kernel's cache and our buffers hold together: an estimate for the planner.
        "effective_cache_size": f"{max(budget * 3 // 4, 128)}MB",
        "work_mem": f"{work_mem}MB",
        "maintenance_work_mem": f"{_between(32, budget // 16, 1024)}MB",
        "max_wal_size": f"{wal}MB",
        "min_wal_size": f"{wal // 4}MB",
    }


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))


def postgresql_hba(
    databases: Iterable[Mapping[str, Any]],
    networks: Iterable[str] = (),
    local_roles: Iterable[Mapping[str, Any]] = (),
    *,
    client_certificates: bool = False,
) -> list[str]:
    """Return pg_hba.conf's lines: the accepted roles, their addresses and their authentication.

    Each app's login roles may reach their own database, from the allowed networks, over TLS,
    with SCRAM. Where the app has a login of its own, all members of its role may: a login with
    another password changes no line. The superuser and local roles come over the socket, proved by
    the kernel. Everything else is refused.

    Args:
        databases: with `name`, `migrate_role`, `app_role` and perhaps `app_login`.
        networks: in CIDR notation.
        local_roles: with `name`.
        client_certificates: ask for a certificate of our CA with the role's name as well.

    Raises:
        ValueError: a network can't be read, or is all of the internet; client certificates are
            asked of a login of its own.

    """
    method = "scram-sha-256" + (" clientcert=verify-full" if client_certificates else "")
    lines = [_line("local", "all", "postgres", "", "peer")]
    lines += [
        _line("local", "all", f'"{role["name"]}"', "", "peer map=bedstone") for role in local_roles
    ]
    parsed = [_network(text) for text in networks]
    for database in databases:
        members = "+" if database.get("app_login") else ""
        if members and client_certificates:
            raise ValueError(
                "postgresql_client_certificates: a certificate's common name is the role that logs "
                f"in, so the database {database['name']} can't have an app_login"
            )
        roles = f'"{database["migrate_role"]}",{members}"{database["app_role"]}"'
        for network in parsed:
            lines.append(_line("hostssl", f'"{database["name"]}"', roles, network, method))
    lines.append(_line("local", "all", "all", "", "reject"))
    lines.append(_line("host", "all", "all", "all", "reject"))
    return lines


def postgresql_ident(local_roles: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return pg_ident.conf's lines: which system user is which local role.

    Raises:
        ValueError: a system user's name isn't one.

    """
    lines = []
    for role in local_roles:
        user = role["system_user"]
        if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}", user):
            raise ValueError(f"{user!r} can't be a system user's name; a name is like prometheus")
        lines.append(f'bedstone  {user}  "{role["name"]}"')
    return lines


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"postgresql_allowed_networks: {error}; a network is like 10.20.0.0/16 or 10.0.0.7/32"
        ) from error
    if network.prefixlen == 0:
        raise ValueError(
            f"postgresql_allowed_networks: {text} is everybody; name the networks of the app hosts"
        )
    return str(network)


def _line(kind: str, databases: str, roles: str, network: str, method: str) -> str:
    return f"{kind:<8} {databases:<24} {roles:<40} {network:<20} {method}"


def postgresql_value(value: Any) -> str:
    """Return a value as postgresql.conf takes it: quoted, whatever it holds.

    Raises:
        ValueError: the value holds a line break.

    """
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if "\n" in text or "\r" in text:
        raise ValueError("a setting of PostgreSQL is one line")
    doubled = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"
