"""Compute the roles' arguments from settings, secrets and topology: pure functions.

playbooks/group_vars/all.yml has one line for each of them, roles/arguments.py calls them once in a
run. The functions say what a role gets; how it is done on the host is the role's own matter.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any

from bedstone_control import names
from bedstone_control.roles import destinations, hooks
from bedstone_control.roles.app_config import (
    app_files,
    host_config,
    registry,
    service_routes,
    source_archive,
    source_secrets,
)
from bedstone_control.roles.app_config import database as database_of
from bedstone_control.settings import calendar
from bedstone_control.settings.environment import database_login, environment
from bedstone_control.vault import content as vault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App, Content

_STANZA = "main"
_ARCHIVE_COMMAND = f"/usr/bin/pgbackrest --stanza={_STANZA} archive-push %p"

# --- app ---------------------------------------------------------------------------------


def app_apps(site: Site) -> list[dict[str, Any]]:
    """Return role app's apps: configuration, environments, files and source archives."""
    if not site.has("app"):
        return []
    return [
        {
            "name": app.name,
            "config": host_config(site, app),
            "environment": environment(
                app,
                site.app_secrets(app),
                https_port=site.https_port,
                client_certificates=site.client_certificates,
            ),
            "migrate_environment": migrate_environment(site, app),
            "source_archive": source_archive(site, app),
            "files": app_files(site, app),
            "registry": registry(site, app),
            "source_secrets": source_secrets(site, app),
        }
        for app in site.settings.apps
    ]


def migrate_environment(site: Site, app: App) -> dict[str, str]:
    """Return the environment of an app's migrations: the app's, with the migration role."""
    return environment(app, site.app_secrets(app), migrate=True, https_port=site.https_port)


# --- postgresql --------------------------------------------------------------------------


def postgresql_databases(site: Site) -> list[dict[str, Any]]:
    """Return role postgresql's databases: owner, migration role, app role and its login."""
    result = []
    for app in site.settings.apps:
        if not app.database:
            continue
        name = app.database.name or names.database_name(app.name)
        secrets = site.app_secrets(app)
        result.append(
            {
                "name": name,
                "owner": names.owner_role(name),
                "migrate_role": names.migrate_role(name),
                "migrate_password": secrets["database_migrate_password"],
                "app_role": names.app_role(name),
                "app_password": secrets["database_password"],
                "app_login": None if site.client_certificates else database_login(app, secrets),
                "extensions": list(app.database.extensions),
                "lock_timeout_seconds": app.database.lock_timeout_seconds,
                "connections": app.database.connections,
                "settings": dict(app.database.settings),
            }
        )
    return result


def _database_clients(site: Site) -> list[str]:
    """Return the app hosts that use this host's PostgreSQL.

    An app host with a PostgreSQL of its own uses that one (Site.database_address).
    """
    databases = site.groups.get("postgresql", [])
    return [
        host for host in site.groups.get("app", []) if host == site.host or host not in databases
    ]


def postgresql_listen_addresses(site: Site) -> list[str]:
    """Return where PostgreSQL listens: only where something of ours connects from."""
    addresses = ["localhost"]
    clients = _database_clients(site)
    if site.host in clients:
        addresses.append(site.bridge_address)
    if any(host != site.host for host in clients):
        addresses.append(site.addresses[site.host])
    return addresses


def postgresql_allowed_networks(site: Site) -> list[str]:
    """Return the networks from which roles may log in, with TLS and a password."""
    networks = []
    for host in _database_clients(site):
        if host == site.host:
            networks.append(str(ip_interface(site.bridge).network))
            networks.extend(pool["base"] for pool in site.address_pools)
        else:
            address = ip_address(site.addresses[host])
            networks.append(f"{address}/{address.max_prefixlen}")
    return sorted(set(networks))


def postgresql_after_units(site: Site) -> list[str]:
    """Return what PostgreSQL starts after: Docker makes the bridge whose address it listens on."""
    units = ["network-online.target"]
    return [*units, "docker.service"] if site.has("app") else units


def postgresql_archive_command(site: Site) -> str:
    """Return what archives PostgreSQL's log, empty when nothing does."""
    return _ARCHIVE_COMMAND if pgbackrest_point_in_time(site) else ""


# --- ca and nginx ------------------------------------------------------------------------


def ca_certificates(site: Site) -> list[dict[str, Any]]:
    """Return role ca's certificates for this host: PostgreSQL's, and each site's of its own."""
    result: list[dict[str, Any]] = []
    if site.has("postgresql"):
        result.append(
            {
                "name": "postgresql",
                "common_name": names.DATABASE_HOST,
                "names": _unique(
                    [names.DATABASE_HOST, "localhost", site.host, site.addresses[site.host]]
                ),
                "usage": "server",
                "reload": ["postgresql.service"],
            }
        )
    if site.has("proxy"):
        result.extend(
            {
                "name": app.name,
                "names": list(app.domains),
                "usage": "server",
                "reload": ["nginx.service"],
            }
            for app in site.settings.apps
            if app.domains and app.tls is None
        )
    return result


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def nginx_sites(site: Site) -> list[dict[str, Any]]:
    """Return role nginx's sites: one for each app with domains."""
    return [
        {
            "name": app.name,
            "domains": list(app.domains),
            "certificate": f"{_tls_directory(app)}/{app.name}.crt",
            "certificate_key": f"{_tls_directory(app)}/{app.name}.key",
            "routes": [
                {"path": path, "upstream": names.upstream(app.name, service)}
                for service, path in service_routes(app).items()
            ],
            "static": _served(app.static, f"{names.CONTENT_DIRECTORY}/{app.name}/static/current"),
            "media": _served(app.media, f"{names.CONTENT_DIRECTORY}/{app.name}/media"),
            "max_body_mb": app.max_body_mb,
            "timeout_seconds": app.timeout_seconds,
        }
        for app in site.settings.apps
        if app.domains
    ]


def _tls_directory(app: App) -> str:
    """Return where the certificate of an app's site is: role ca's directory or role nginx's."""
    return names.OWN_TLS_DIRECTORY if app.tls else names.TLS_DIRECTORY


def _served(content: Content | None, directory: str) -> dict[str, str] | None:
    """Return what nginx serves of a directory; nothing when it has no URL."""
    if content is None or content.url is None:
        return None
    return {"url": content.url, "directory": directory}


def nginx_upstreams(site: Site) -> list[str]:
    """Return the names of nginx's upstreams: one for each HTTP service with a route."""
    return [
        names.upstream(app.name, service)
        for app in site.settings.apps
        for service in service_routes(app)
    ]


def nginx_certificate_files(site: Site) -> list[dict[str, str]]:
    """Return the operator's own certificates: name, and PEM files on the controller."""
    return [
        {
            "name": app.name,
            "certificate": site.path(app.tls.certificate),
            "key": site.path(app.tls.key),
        }
        for app in site.settings.apps
        if app.tls and app.domains
    ]


# --- backup ------------------------------------------------------------------------------


def backup_databases(site: Site) -> list[dict[str, Any]]:
    """Return role backup's databases on this host, each with its app and its owner."""
    if not site.has("postgresql"):
        return []
    return [
        {"app": app.name, **database}
        for app in site.settings.apps
        if (database := database_of(app)) is not None
    ]


def backup_media(site: Site) -> list[dict[str, str]]:
    """Return role backup's directories of uploads on this host, each with its app."""
    if not site.has("app"):
        return []
    return [
        {"app": app.name, "directory": f"{names.CONTENT_DIRECTORY}/{app.name}/media"}
        for app in site.settings.apps
        if app.media
    ]


def backup_keep_days(site: Site) -> int:
    """Return of how many days the newest backup is kept."""
    return site.settings.backup.keep_days


def backup_keep_weeks(site: Site) -> int:
    """Return of how many weeks the newest backup is kept."""
    return site.settings.backup.keep_weeks


def backup_keep_months(site: Site) -> int:
    """Return of how many months the newest backup is kept."""
    return site.settings.backup.keep_months


def backup_schedule(site: Site) -> str:
    """Return when the nightly backup starts, as systemd.time(7) has it."""
    return f"*-*-* {site.settings.backup.time}:00"


def backup_verify_schedule(site: Site) -> str:
    """Return when backups are verified: as said, else on Sundays two hours after the backup."""
    if site.settings.backup.verify_schedule is not None:
        return site.settings.backup.verify_schedule
    days, later = calendar.shifted(site.settings.timezone, site.settings.backup.time, hours=2)
    return f"{'Mon' if days else 'Sun'} *-*-* {later}:00"


def backup_checks(site: Site) -> dict[str, list[str]]:
    """Return the SQL of each app that is true in a backup that is whole."""
    if not site.has("postgresql"):
        return {}
    return {
        app.name: app.backup_checks
        for app in site.settings.apps
        if app.database is not None and app.backup_checks
    }


def backup_verify_host(site: Site) -> str:
    """Return the host that verifies this one's backups, empty when it does so itself."""
    hosts = site.groups.get("verify", [])
    return hosts[0] if hosts and site.has("postgresql") else ""


def backup_origins(site: Site) -> list[dict[str, Any]]:
    """Return the hosts whose backups this one verifies, with the ways to their destinations."""
    if not site.has("verify"):
        return []
    return [
        {
            "name": origin.host,
            "databases": backup_databases(origin),
            "media": backup_media(origin),
            "checks": backup_checks(origin),
            "destinations": backup_destinations(origin),
            "key": backup_key(origin),
            "point_in_time": backup_point_in_time(origin),
            "stanza": _STANZA,
        }
        for host in site.groups.get("postgresql", [])
        for origin in [replace(site, host=host)]
    ]


def backup_directory(site: Site) -> str:
    """Return where backups are kept on the server."""
    return site.settings.backup.directory


def backup_destinations(site: Site) -> list[dict[str, Any]]:
    """Return the destinations of backups other than the host, secrets included."""
    return pgbackrest_destinations(site)


def backup_key(site: Site) -> str:
    """Return what encrypts all that leaves the host, empty when there is no key."""
    return _backup_key(site)


def backup_point_in_time(site: Site) -> bool:
    """Return whether this host has a database of which any moment can be restored."""
    return pgbackrest_point_in_time(site)


def backup_keep_point_in_time_days(site: Site) -> int:
    """Return of how many days any moment can be restored."""
    return pgbackrest_keep_days(site)


# --- pgbackrest --------------------------------------------------------------------------


def pgbackrest_point_in_time(site: Site) -> bool:
    """Return whether this host has a database of which any moment can be restored."""
    return site.has("postgresql") and site.settings.backup.point_in_time


def pgbackrest_keep_days(site: Site) -> int:
    """Return of how many days any moment can be restored."""
    return site.settings.backup.keep_point_in_time_days


def pgbackrest_full_schedule(site: Site) -> str:
    """Return when the whole cluster is backed up: on Sundays."""
    return f"Sun *-*-* {_hour_before(site)}:00"


def pgbackrest_incremental_schedule(site: Site) -> str:
    """Return when what changed in it is backed up: on all other days."""
    return f"Mon..Sat *-*-* {_hour_before(site)}:00"


def pgbackrest_destinations(site: Site) -> list[dict[str, Any]]:
    """Return the destinations of the WAL other than the host: the same list as role backup's."""
    return destinations.entries(site) if site.has("postgresql") else []


def pgbackrest_key(site: Site) -> str:
    """Return what encrypts all that leaves the host, empty when there is no key."""
    return _backup_key(site)


def _backup_key(site: Site) -> str:
    """Return the backup key, only for hosts that back something up."""
    key = vault.backup_key({"bedstone_secrets": dict(site.secrets)})
    return str(key) if key is not None and site.has("postgresql") else ""


def _hour_before(site: Site) -> str:
    """Return the time an hour before the nightly backup: both at once would slow each other."""
    return calendar.shifted(site.settings.timezone, site.settings.backup.time, hours=-1)[1]


# --- host_program ------------------------------------------------------------------------


def host_program_hooks(site: Site) -> list[dict[str, Any]]:
    """Return the receivers of releases, failures and rollbacks."""
    return hooks.entries(site)


def host_program_mail(site: Site) -> dict[str, Any] | None:
    """Return how it sends mail, None when it doesn't."""
    return hooks.mail(site)


# --- base --------------------------------------------------------------------------------


def base_operator_name(site: Site) -> str:
    """Return the name of the administrators' account, empty for none."""
    return site.settings.operator.name if site.settings.operator else ""


def base_operator_authorized_keys(site: Site) -> list[str]:
    """Return the public keys that may log in to it."""
    return list(site.settings.operator.authorized_keys) if site.settings.operator else []


def base_timezone(site: Site) -> str:
    """Return the servers' time zone."""
    return site.settings.timezone


def base_extra_ca_certificates(site: Site) -> list[str]:
    """Return the PEM files on the controller with further certificate authorities."""
    return [site.path(path) for path in site.settings.extra_ca_certificates]
