"""List the roles, in the order in which they are applied: the one list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.roles import (
    acme,
    app,
    backup,
    base,
    ca,
    docker,
    firewall,
    host_program,
    logs,
    metrics,
    nginx,
    pgbackrest,
    pgbouncer,
    postgresql,
    postgresql_replica,
    prometheus,
    rabbitmq,
    redis,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bedstone_control.roles.role import Group, Role, Secret
    from bedstone_control.roles.site import Site
    from bedstone_control.settings.root import Settings

ROLES: tuple[Role, ...] = (
    base.ROLE,
    firewall.ROLE,
    host_program.ROLE,
    ca.ROLE,
    docker.ROLE,
    postgresql.ROLE,
    backup.ROLE,
    pgbackrest.ROLE,
    postgresql_replica.ROLE,
    pgbouncer.ROLE,
    redis.ROLE,
    rabbitmq.ROLE,
    nginx.ROLE,
    acme.ROLE,
    logs.ROLE,
    metrics.ROLE,
    prometheus.ROLE,
    app.ROLE,
)


def arguments(roles: Iterable[Role] = ROLES) -> dict[str, Callable[[Site], Any]]:
    """Return the arguments of all roles that follow from the settings, with their functions."""
    return {name: function for role in roles for name, function in role.arguments.items()}


def derived(roles: Iterable[Role] = ROLES) -> set[str]:
    """Return the names of the arguments that an inventory can't set."""
    return {name for role in roles for name in (*role.arguments, *role.expressions)}


def filters(roles: Iterable[Role] = ROLES) -> dict[str, Callable[..., Any]]:
    """Return the filters of all roles, by name."""
    return {function.__name__: function for role in roles for function in role.filters}


def groups(roles: Iterable[Role] = ROLES) -> list[Group]:
    """Return the groups of the inventory that roles are applied to, each once."""
    return list(dict.fromkeys(role.group for role in roles))


def secrets(settings: Settings, roles: Iterable[Role] = ROLES) -> list[Secret]:
    """Return the secrets that settings need in the vault; of two for one place, the first."""
    found: dict[tuple[str, ...], Secret] = {}
    for role in roles:
        for secret in role.secrets(settings):
            found.setdefault(secret.place, secret)
    return list(found.values())
