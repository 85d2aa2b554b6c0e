"""Role pgbouncer: pools of connections to PostgreSQL, one for each app that asks for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control import names
from bedstone_control.roles import postgresql, reach
from bedstone_control.roles.groups import POSTGRESQL
from bedstone_control.roles.role import FurtherPort, Offer, Placeholder, Role, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bedstone_control.roles.site import Site

PORT = 6432
UNIT = "bedstone-pool.service"
SOCKET = "bedstone-pool.socket"
CONFIGURATION = "/etc/bedstone/pool/pgbouncer.ini"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Its own, and connections to PostgreSQL, which has some hundreds.
_OTHER_FILES = 4096


def databases(site: Site) -> list[dict[str, Any]]:
    """Return role pgbouncer's databases."""
    return [
        {"name": found["name"], "size": app.database.pool.size}
        for app in site.settings.apps
        if app.database and app.database.pool and (found := postgresql.database(app))
    ]


def listen_addresses(site: Site) -> list[str]:
    """Return where PgBouncer listens: where PostgreSQL does, on another port."""
    return ["127.0.0.1", *reach.listen_addresses(site, POSTGRESQL)]


def further_ports(site: Site) -> Iterator[FurtherPort]:
    """Yield PgBouncer's port where an app uses it."""
    if databases(site):
        networks = reach.networks(site, POSTGRESQL)
        yield FurtherPort("PgBouncer", site.port("pgbouncer_port"), networks)


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return PgBouncer's certificate where an app uses it."""
    if not databases(site):
        return []
    return [reach.certificate(site, "pgbouncer", names.POOL_HOST, [UNIT])]


def pgbouncer_database(database: Mapping[str, Any], socket: str, port: int) -> str:
    """Return a database's line in pgbouncer.ini.

    Args:
        database: one of the role's `pgbouncer_databases`.
        socket: the directory of PostgreSQL's socket.
        port: PostgreSQL's port.

    Raises:
        ValueError: its name can't be one, or its size is no positive number.

    """
    name, size = database["name"], int(database["size"])
    if not _NAME.fullmatch(name) or name in {"pgbouncer", names.POOL_ROLE}:
        raise ValueError(
            f"pgbouncer_databases: {name!r} can't be the name of a database with a pool: small "
            "letters, digits and underscores. Example: payments."
        )
    if size < 1:
        raise ValueError(f"pgbouncer_databases: the size of {name} is {size}; use 1 or more")
    # Quotes in a quoted value are doubled. Logins of other apps aren't found in this database.
    query = f"SELECT login, verifier FROM {names.POOL_ROLE}.verifier($1, ''{name}'')"  # noqa: S608
    return (
        f"{name} = host={socket} port={port} pool_size={size}"
        f" auth_user={names.POOL_ROLE} auth_dbname={names.POOL_ROLE} auth_query='{query}'"
    )


def pgbouncer_stream(address: str, port: int) -> str:
    """Return an address with its port, as systemd.socket(5) has it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def pgbouncer_open_files(max_clients: int) -> int:
    """Return how many files PgBouncer may open: one a client and one a connection to PostgreSQL.

    It does not follow from the pools' sizes, since another limit takes a restart.

    Args:
        max_clients: the role's `pgbouncer_max_clients`.

    """
    return max_clients + _OTHER_FILES


def pgbouncer_units(given: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the units, in the form of converge's `units`.

    Args:
        given: the role's `pgbouncer_databases`.

    """
    if not list(given):
        return []
    units = "/etc/systemd/system"
    return [
        # Debian's own runs as the user postgres, the superuser of the databases.
        {"name": "pgbouncer.service", "masked": True, "state": "stopped"},
        {
            "name": SOCKET,
            "enabled": True,
            "state": "started",
            "restart_on": [f"{units}/{SOCKET}", "/etc/sysusers.d/bedstone-pool.conf"],
        },
        {
            "name": UNIT,
            "enabled": True,
            "state": "started",
            "reload_on": [CONFIGURATION],
            "restart_on": [f"{units}/{UNIT}", f"{units}/{SOCKET}"],
        },
    ]


_OFFER = Offer(
    needs="a pool of connections",
    setting={"database": {"pool": True}},
    used_by=lambda app: app.database is not None and app.database.pool is not None,
    placeholders={
        "database.pool_mode": Placeholder(
            "`transaction` where connections go through the pool, `session` in migrations"
        ),
    },
    variables={"POSTGRES_POOL_MODE": "${database.pool_mode}"},
    values=lambda _site, _app, migrate: {
        "database.pool_mode": "session" if migrate else "transaction"
    },
    hosts=lambda site: {names.POOL_HOST: reach.address(site, POSTGRESQL)},
)

ROLE = Role(
    name="pgbouncer",
    group=POSTGRESQL,
    stage=Stage.FRONT,
    arguments={
        "pgbouncer_databases": databases,
        "pgbouncer_listen_addresses": listen_addresses,
        "pgbouncer_postgresql_port": lambda site: site.port("postgresql_port"),
    },
    variables={"pgbouncer_port": PORT},
    further_ports=further_ports,
    certificates=certificates,
    offers=(_OFFER,),
    filters=(pgbouncer_database, pgbouncer_open_files, pgbouncer_stream, pgbouncer_units),
)
