"""Check the pools of connections against what the apps and PostgreSQL may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.checks.apps import located
from bedstone_control.checks.problems import Problem
from bedstone_control.roles.postgresql import postgresql_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedstone_control.checks.context import Context
    from bedstone_control.settings.root import Settings

# Connections that no app gets: the superuser's, those of backups and monitoring (role postgresql).
KEPT = 10
_DEFAULT_SIZE = 10


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check each pool against its app's other settings."""
    for place, app in located(context, settings):
        if app.database is None or app.database.pool is None:
            continue
        size, connections = app.database.pool.size, app.database.connections
        where = (*place, "database", "pool")
        if app.database.client_certificate:
            message = (
                "`client_certificate` is set: PgBouncer can't show PostgreSQL a certificate in "
                "place of the app. Leave out one of both."
            )
            yield context.problem(where, message, {"database": {"pool": False}})
        elif connections is not None and size > connections:
            message = f"The pool has {size} connections, and the app may have {connections}."
            example = {"database": {"connections": size + 10, "pool": {"size": size}}}
            yield context.problem(where, message, example)


def check_server(
    host: str, memory_mb: int, apps: Sequence[Any], variables: Mapping[str, Any]
) -> Iterator[Problem]:
    """Check that PostgreSQL on a server has as many connections as the pools may open.

    Args:
        host: its name in the inventory.
        memory_mb: its memory, which the number follows from where it isn't set.
        apps: `bedstone_apps`, as the settings have it.
        variables: the server's `postgresql_*`, as far as they are set.

    """
    total = sum(_size(app) for app in apps)
    given = postgresql_memory(
        int(variables.get("postgresql_memory_mb") or memory_mb),
        int(variables.get("postgresql_memory_share_percent") or 50),
        int(variables.get("postgresql_max_connections") or 0) or None,
    )
    most = int(given["max_connections"])
    if total > most - KEPT:
        message = (
            f"Its PostgreSQL has {most} connections, {KEPT} of them for its administration, and "
            f"the apps' pools may open {total}."
        )
        example = f"postgresql_max_connections: {total + 2 * KEPT}"
        yield Problem(message, f"server {host}", "group_vars/all/settings.yml", example)


def _size(app: Any) -> int:
    """Return the size of an app's pool; 0 without one, and for what the schema refuses."""
    database = app.get("database") if isinstance(app, dict) else None
    pool = database.get("pool") if isinstance(database, dict) else None
    if isinstance(pool, dict):
        size = pool.get("size", _DEFAULT_SIZE)
        return size if isinstance(size, int) else 0
    return _DEFAULT_SIZE if pool is True else 0
