"""Role postgresql: databases and logins, memory settings of the host's size, pg_hba.conf."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from bedstone.core.names import REPLICATION_ROLE
from bedstone_control import names
from bedstone_control.roles import pgbackrest, reach
from bedstone_control.roles.groups import POSTGRESQL, POSTGRESQL_REPLICA
from bedstone_control.roles.role import (
    Offer,
    Placeholder,
    Port,
    Role,
    Rotation,
    Secret,
    Stage,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bedstone_control.roles.role import Group
    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings

_LOGIN = Rotation(
    "passwords", overlap="the previous login stays until the release that no longer uses it"
)
_MIGRATE = Rotation(
    "passwords", overlap="no running container uses it; a release reads the new one"
)
_CLIENT_FILES = {
    f"ssl{kind}": f"{names.CLIENT_IN_CONTAINER}/{names.CLIENT_CERTIFICATE}.{suffix}"
    for kind, suffix in (("cert", "crt"), ("key", "key"))
}
_LOOPBACK = ("127.0.0.1/32", "::1/128")
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
    replicas: Iterable[Mapping[str, Any]] = (),
) -> list[str]:
    """Return pg_hba.conf's lines: the accepted roles, their addresses and their authentication.

    Each app's login roles may reach their own database, from the allowed networks, over TLS,
    with SCRAM. Where the app has a login of its own, all members of its role may: a login with
    another password changes no line. The superuser and local roles come over the socket, proved by
    the kernel. Where PgBouncer has a pool of a database, so does its own role to check logins, and
    the app's logins with their password. Everything else is refused.

    Args:
        databases: with `name`, `migrate_role`, `app_role` and perhaps `app_login`, `pool_size` or
            `client_certificate`: its roles need a certificate of our CA with their name as well.
        networks: in CIDR notation.
        local_roles: with `name`.
        replicas: the standbys, with `address`; each proves itself by a certificate of our CA.

    Raises:
        ValueError: a network can't be read, or is all of the internet; client certificates are
            asked of a login of its own.

    """
    databases = list(databases)
    lines = [_line("local", "all", "postgres", "", "peer")]
    lines += [
        _line("local", "all", f'"{role["name"]}"', "", "peer map=bedstone") for role in local_roles
    ]
    parsed = [_network(text) for text in networks]
    if any(database.get("pool_size") for database in databases):
        lines.append(_line("local", "postgres", f'"{names.POOL_ROLE}"', "", "peer map=bedstone"))
    for database in databases:
        members = "+" if database.get("app_login") else ""
        has_certificate = bool(database.get("client_certificate"))
        if members and has_certificate:
            raise ValueError(
                "client_certificate: a certificate's common name is the role that logs in, so the "
                f"database {database['name']} can't have an app_login"
            )
        method = "scram-sha-256" + (" clientcert=verify-full" if has_certificate else "")
        roles = f'"{database["migrate_role"]}",{members}"{database["app_role"]}"'
        if database.get("pool_size"):
            app_roles = f'{members}"{database["app_role"]}"'
            lines.append(_line("local", f'"{database["name"]}"', app_roles, "", "scram-sha-256"))
        for network in parsed:
            lines.append(_line("hostssl", f'"{database["name"]}"', roles, network, method))
    for replica in replicas:
        address = ipaddress.ip_address(replica["address"])
        network = f"{address}/{address.max_prefixlen}"
        lines.append(_line("hostssl", "replication", f'"{REPLICATION_ROLE}"', network, "cert"))
    lines.append(_line("local", "all", "all", "", "reject"))
    lines.append(_line("host", "all", "all", "all", "reject"))
    return lines


def postgresql_ident(
    local_roles: Iterable[Mapping[str, Any]], databases: Iterable[Mapping[str, Any]] = ()
) -> list[str]:
    """Return pg_ident.conf's lines: which system user is which local role.

    Args:
        local_roles: with `name` and `system_user`.
        databases: PgBouncer has a role of its own where one of them has a `pool_size`.

    Raises:
        ValueError: a system user's name isn't one.

    """
    lines = []
    given = list(local_roles)
    if any(database.get("pool_size") for database in databases):
        given.append({"name": names.POOL_ROLE, "system_user": names.POOL_USER})
    for role in given:
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


# What a standby must have at least as much of as its primary, with PostgreSQL's defaults
# (documentation, "Hot Standby", "Administrator's Overview").
_MIRRORED = {
    "max_connections": 100,
    "max_worker_processes": 8,
    "max_wal_senders": 10,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 64,
}


def postgresql_mirrored(control_data: str, own: Mapping[str, Any]) -> dict[str, int]:
    """Return the settings that a standby must raise to what its primary has.

    Args:
        control_data: what `pg_controldata` printed of the standby, empty where there is no
            cluster yet: it holds the settings of the primary that wrote the last WAL replayed.
        own: the standby's own settings.

    """
    raised = {}
    for name, default in _MIRRORED.items():
        # max_prepared_transactions is abbreviated there; the others are as in postgresql.conf.
        shown = name.replace("prepared_transactions", "prepared_xacts").replace(
            "locks_per_transaction", "locks_per_xact"
        )
        found = re.search(rf"^{shown} setting:\s+(\d+)$", control_data, re.MULTILINE)
        if found and int(found[1]) > int(own.get(name, default)):
            raised[name] = int(found[1])
    return raised


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


def database(app: App) -> dict[str, str] | None:
    """Return an app's database and the role that owns it, if it has one."""
    if not app.database:
        return None
    name = app.database.name or names.database_name(app.name)
    return {"name": name, "owner": names.owner_role(name)}


def login(site: Site, app: App) -> str | None:
    """Return the role that an app logs in to its database as, None without a database.

    With a client certificate it is the app's role, since the name in a certificate can't change
    with the password.

    Raises:
        ValueError: the password is missing.

    """
    found = database(app)
    if found is None:
        return None
    if has_client_certificate(app):
        return names.app_role(found["name"])
    return names.app_login(found["name"], site.app_secret(app, "database_password"))


def has_client_certificate(app: App) -> bool:
    """Return whether PostgreSQL asks an app's roles for a certificate."""
    return app.database is not None and app.database.client_certificate


def client_certificates(site: Site) -> list[dict[str, Any]]:
    """Return the certificates of the apps' roles, each in a directory of its own."""
    return [
        {"name": f"{role}/{names.CLIENT_CERTIFICATE}", "common_name": role, "usage": "client"}
        for app in site.settings.apps
        if has_client_certificate(app) and (found := database(app)) is not None
        for role in (names.app_role(found["name"]), names.migrate_role(found["name"]))
    ]


def client_mount(app: App, *, migrate: bool = False) -> list[dict[str, str]]:
    """Return the mount of the certificate with which an app, or its migrations, log in."""
    found = database(app)
    if found is None or not has_client_certificate(app):
        return []
    role = (names.migrate_role if migrate else names.app_role)(found["name"])
    source = f"{names.TLS_DIRECTORY}/{role}"
    # The key is readable for the group; libpq accepts that of a file that belongs to root.
    return [{"source": source, "target": names.CLIENT_IN_CONTAINER, "group": "ssl-cert"}]


def databases(site: Site) -> list[dict[str, Any]]:
    """Return role postgresql's databases: owner, migration role, app role and its login."""
    result = []
    for app in site.settings.apps:
        found = database(app)
        if app.database is None or found is None:
            continue
        name = found["name"]
        result.append(
            {
                "name": name,
                "owner": found["owner"],
                "migrate_role": names.migrate_role(name),
                "migrate_password": site.app_secret(app, "database_migrate_password"),
                "app_role": names.app_role(name),
                "app_password": site.app_secret(app, "database_password"),
                "app_login": None if has_client_certificate(app) else login(site, app),
                "client_certificate": has_client_certificate(app),
                "extensions": list(app.database.extensions),
                "lock_timeout_seconds": app.database.lock_timeout_seconds,
                "connections": app.database.connections,
                "pool_size": app.database.pool.size if app.database.pool else None,
                "settings": dict(app.database.settings),
            }
        )
    return result


def listen_addresses(site: Site) -> list[str]:
    """Return where PostgreSQL listens: only where something of ours connects from."""
    found = reach.listen_addresses(site, _group(site))
    if primary(site) or replicas(site):
        # The same before and after a promotion, so that it restarts nothing.
        found.append(site.addresses[site.host])
    return list(dict.fromkeys(["localhost", *found]))


def _group(site: Site) -> Group:
    return POSTGRESQL_REPLICA if site.has(POSTGRESQL_REPLICA.name) else POSTGRESQL


def primary(site: Site) -> dict[str, Any] | None:
    """Return the primary that this host's PostgreSQL follows, None where it follows none.

    Raises:
        ValueError: no host of the inventory, or several could be it.

    """
    if not site.has(POSTGRESQL_REPLICA.name):
        return None
    hosts = site.groups.get(POSTGRESQL.name, [])
    if len(hosts) != 1:
        raise ValueError(
            f"{site.host} keeps a copy of the databases of one host, and the group `postgresql` "
            f"has {len(hosts)}."
        )
    return {
        "name": hosts[0],
        "address": site.addresses[hosts[0]],
        "port": site.port("postgresql_port"),
        "certificate_name": names.DATABASE_HOST,
        "slot": names.replication_slot(site.host),
    }


def replicas(site: Site) -> list[dict[str, Any]]:
    """Return the standbys of this host's PostgreSQL."""
    if not site.has(POSTGRESQL.name):
        return []
    return [
        {"name": host, "address": site.addresses[host], "slot": names.replication_slot(host)}
        for host in site.groups.get(POSTGRESQL_REPLICA.name, [])
    ]


def keeps_wal(site: Site) -> bool:
    """Return whether a promoted standby keeps its WAL until it is told where to archive it."""
    return bool(primary(site)) and site.settings.backup.point_in_time


def allowed_networks(site: Site) -> list[str]:
    """Return the networks from which roles may log in, with TLS and a password.

    The server itself is among them: an operator's psql, or a tunnel by ssh. Docker's bridge serves
    neither: Docker rewrites the source of what the host sends there.
    """
    return [*_LOOPBACK, *clients(site)]


def clients(site: Site) -> list[str]:
    """Return the networks of the containers and hosts that use the databases."""
    return reach.networks(site, _group(site))


def reachable_from(site: Site) -> list[str]:
    """Return the networks that may connect: those of the clients, and the standbys."""
    own = [f"{ip}/{ip.max_prefixlen}" for ip in _addresses(replicas(site))]
    return sorted({*clients(site), *own})


def _addresses(found: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [ipaddress.ip_address(each["address"]) for each in found]


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return the certificate of PostgreSQL's server, and the one with which a standby logs in."""
    server = reach.certificate(site, "postgresql", names.DATABASE_HOST, ["postgresql.service"])
    if not site.groups.get(POSTGRESQL_REPLICA.name):
        return [server]
    # The same on each of them: after a promotion it answers to the other name.
    answers_to = [names.DATABASE_HOST, names.DATABASE_REPLICA_HOST, *server["names"]]
    server["names"] = list(dict.fromkeys(answers_to))
    login = {"name": "replication", "common_name": REPLICATION_ROLE, "usage": "client"}
    return [server, login]


def _secrets(settings: Settings) -> Iterator[Secret]:
    for app in settings.apps:
        if app.database:
            place = ("apps", app.name)
            for name, purpose, rotation in (
                ("database_migrate_password", "of the role that changes the schema", _MIGRATE),
                ("database_password", "of the role the app uses", _LOGIN),
            ):
                yield Secret((*place, name), purpose, token(32), least=16, rotation=rotation)


def _placeholder_values(site: Site, app: App, migrate: bool) -> dict[str, str]:  # noqa: FBT001 - see Offer
    """Return the placeholders `database.*`."""
    direct = names.DATABASE_HOST, str(site.port("postgresql_port"))
    # A migration needs a session: SET, advisory locks, CREATE INDEX CONCURRENTLY.
    pooled = app.database is not None and app.database.pool is not None and not migrate
    pool = names.POOL_HOST, str(site.port("pgbouncer_port"))
    values = login_values(site, app, pool if pooled else direct, migrate=migrate)
    past_pool = login_values(site, app, direct, migrate=migrate)
    values |= {f"direct.{name}": past_pool[name] for name in ("url", "host", "port")}
    return {f"database.{name}": value for name, value in values.items()}


def login_values(site: Site, app: App, place: tuple[str, str], *, migrate: bool) -> dict[str, str]:
    """Return how an app logs in at a host and port of its database, by names of placeholders."""
    found = database(app)
    if found is None:
        return {}
    name = found["name"]
    if migrate:
        role, password = names.migrate_role(name), site.app_secret(app, "database_migrate_password")
    else:
        role, password = str(login(site, app)), site.app_secret(app, "database_password")
    tls = {"sslmode": "verify-full", "sslrootcert": names.CA_IN_CONTAINER}
    if has_client_certificate(app):
        tls |= _CLIENT_FILES
    options = urlencode(tls, safe="/", quote_via=quote)
    host, port = place
    address = f"{role}:{quote(password, safe='')}@{host}:{port}/{name}?{options}"
    return {
        "url": f"postgresql://{address}",
        "postgres_url": f"postgres://{address}",
        "host": host,
        "port": port,
        "name": name,
        "user": role,
        "password": password,
        "sslmode": "verify-full",
        "sslrootcert": names.CA_IN_CONTAINER,
    }


_OFFER = Offer(
    needs="a database",
    setting={"database": True},
    used_by=lambda app: app.database is not None,
    placeholders={
        "database.url": Placeholder(
            "postgresql://… with user, password, host, port, name and TLS options",
            secret=True,
            login=True,
        ),
        "database.postgres_url": Placeholder(
            "the same as postgres://…, for an app that takes no postgresql://",
            secret=True,
            login=True,
        ),
        "database.host": Placeholder("name of the database's host, as its certificate has it"),
        "database.port": Placeholder("its port"),
        "database.direct.url": Placeholder(
            "like `database.url`, and past a pool, for what needs a session of its own",
            secret=True,
            login=True,
        ),
        "database.direct.host": Placeholder("like `database.host`, and past a pool"),
        "database.direct.port": Placeholder("like `database.port`, and past a pool"),
        "database.name": Placeholder("the app's database"),
        "database.user": Placeholder(
            "the role to log in as, another one with each password; the migration role in "
            "migrations",
            login=True,
        ),
        "database.password": Placeholder("that role's password", secret=True),
        "database.sslmode": Placeholder("verify-full"),
        "database.sslrootcert": Placeholder("path in the container of the authority's certificate"),
    },
    variables={
        "DATABASE_URL": "${database.url}",
        "POSTGRES_DB": "${database.name}",
        "POSTGRES_USER": "${database.user}",
        "POSTGRES_PASSWORD": "${database.password}",
        "POSTGRES_HOST": "${database.host}",
        "POSTGRES_PORT": "${database.port}",
        "POSTGRES_SSL_MODE": "${database.sslmode}",
        "POSTGRES_SSL_ROOT_CERT": "${database.sslrootcert}",
        # libpq reads it where an address names no authority.
        "PGSSLROOTCERT": "${database.sslrootcert}",
    },
    values=_placeholder_values,
    hosts=lambda site: {names.DATABASE_HOST: reach.address(site, POSTGRESQL)},
)

_CERTIFICATE_OFFER = Offer(
    needs="a client certificate",
    setting={"database": {"client_certificate": True}},
    used_by=has_client_certificate,
    placeholders={
        "database.sslcert": Placeholder("path in the container of the role's certificate"),
        "database.sslkey": Placeholder("path in the container of its key"),
    },
    variables={
        "POSTGRES_SSL_CERT": "${database.sslcert}",
        "POSTGRES_SSL_KEY": "${database.sslkey}",
        # libpq reads them where an address names neither.
        "PGSSLCERT": "${database.sslcert}",
        "PGSSLKEY": "${database.sslkey}",
    },
    values=lambda _site, _app, _migrate: {
        f"database.{name}": path for name, path in _CLIENT_FILES.items()
    },
)

ROLE = Role(
    name="postgresql",
    group=POSTGRESQL,
    stage=Stage.DATA,
    arguments={
        "postgresql_databases": databases,
        "postgresql_listen_addresses": listen_addresses,
        "postgresql_allowed_networks": allowed_networks,
        "postgresql_after_units": reach.after_units,
        "postgresql_archive_command": pgbackrest.archive_command,
        "postgresql_primary": primary,
        "postgresql_replicas": replicas,
        "postgresql_keep_wal": keeps_wal,
        "postgresql_metrics": lambda site: site.settings.metrics is not None,
    },
    ports=(
        Port("postgresql_port", 5432, "PostgreSQL", ("postgres", "postgresql"), reachable_from),
    ),
    secrets=_secrets,
    certificates=certificates,
    offers=(_OFFER, _CERTIFICATE_OFFER),
    filters=(
        postgresql_hba,
        postgresql_ident,
        postgresql_memory,
        postgresql_mirrored,
        postgresql_value,
    ),
)
