"""From settings, secrets and topology to the arguments of the roles: pure functions.

playbooks/group_vars/all.yml has one line for each of them. The functions say what a role
gets; how it is done on the host is the role's own matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control import names, source
from bedstone_control.environment import environment, placeholder_values
from bedstone_control.placeholders import expand
from bedstone_control.plain import plain
from bedstone_control.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_control.settings import App, Content, Service


@dataclass(frozen=True)
class Site:
    """Everything the functions know.

    Attributes:
        settings: what the operator wrote.
        secrets: what the vault holds.
        groups: the inventory's groups and their hosts: the topology.
        host: the host whose arguments are asked for.
        addresses: the IP address of each host.
        bridge: the address of a host on its own Docker bridge, with its network's length.
        address_pools: where Docker takes the networks of the apps from.
        https_port: the port on which nginx answers.
        inventory_directory: where paths of the settings start.
        cache_directory: where source archives are kept on the controller.

    """

    settings: Settings
    secrets: Mapping[str, Any]
    groups: Mapping[str, list[str]]
    host: str
    addresses: Mapping[str, str]
    bridge: str
    address_pools: list[dict[str, Any]]
    https_port: int
    inventory_directory: Path
    cache_directory: Path

    @classmethod
    def from_variables(cls, variables: Mapping[str, Any]) -> Site:
        """Make a site of Ansible's variables.

        Raises:
            ValueError: the settings break the schema (role preflight has a better report).

        """
        values = plain(dict(variables))
        return cls(
            settings=Settings.model_validate(
                {name: value for name, value in values["settings"].items() if value is not None}
            ),
            secrets=values["secrets"],
            groups=values["groups"],
            host=values["host"],
            addresses=values["addresses"],
            bridge=values["bridge"],
            address_pools=values["address_pools"],
            https_port=int(values["https_port"]),
            inventory_directory=Path(values["inventory_directory"]),
            cache_directory=Path(values["cache_directory"]),
        )

    def has(self, group: str) -> bool:
        """Say whether the host is in a group."""
        return self.host in self.groups.get(group, [])

    def path(self, text: str) -> str:
        """Return a path of the settings as an absolute one on the controller."""
        return str((self.inventory_directory / Path(text).expanduser()).resolve())

    def app_secrets(self, app: App) -> dict[str, str]:
        """Return the secrets of one app."""
        return dict(self.secrets.get("apps", {}).get(app.name, {}))

    @property
    def bridge_address(self) -> str:
        """The address of this host on its own Docker bridge."""
        return str(ip_interface(self.bridge).ip)

    @property
    def database_address(self) -> str:
        """The address under which this host's containers reach PostgreSQL."""
        hosts = self.groups.get("postgresql", [])
        if not hosts or self.host in hosts:
            return self.bridge_address
        return self.addresses[hosts[0]]


# --- app ---------------------------------------------------------------------------------


def app_apps(site: Site) -> list[dict[str, Any]]:
    """Return role app's apps: configuration, environments, files and source archives."""
    return [
        {
            "name": app.name,
            "config": host_config(site, app),
            "environment": environment(app, site.app_secrets(app), https_port=site.https_port),
            "migrate_environment": migrate_environment(site, app),
            "source_archive": source_archive(site, app),
            "files": app_files(site, app),
        }
        for app in site.settings.apps
    ]


def migrate_environment(site: Site, app: App) -> dict[str, str]:
    """Return the environment of an app's migrations: the app's, with the migration role."""
    return environment(app, site.app_secrets(app), migrate=True, https_port=site.https_port)


def source_archive(site: Site, app: App) -> str | None:
    """Return the archive on the controller that an app's image is made of, if any."""
    if app.source.path is not None:
        prepared = source.prepare(Path(site.path(app.source.path)), app.build)
        return str(prepared.archive(site.cache_directory, app.name))
    if app.source.archive is not None:
        return site.path(app.source.archive)
    return None


def app_files(site: Site, app: App) -> list[dict[str, Any]]:
    """Return the further files of an app: where on the host, and source or content."""
    secrets = site.app_secrets(app)
    values = placeholder_values(app, secrets, https_port=site.https_port) if app.files else {}
    result = []
    for number, file in enumerate(app.files):
        entry: dict[str, Any] = {"path": _file_on_host(app, number)}
        if file.source is not None:
            entry["source"] = site.path(file.source)
        else:
            entry["content"] = expand(file.content or "", values)
        result.append(entry)
    return result


def _file_on_host(app: App, number: int) -> str:
    name = Path(app.files[number].target).name
    return f"{names.CONFIG_DIRECTORY}/{app.name}/files/{number}-{name}"


def host_config(site: Site, app: App) -> dict[str, Any]:
    """Return the app.json of an app, schema 1."""
    directory = f"{names.CONFIG_DIRECTORY}/{app.name}"
    return {
        "schema": 1,
        "name": app.name,
        "domains": list(app.domains),
        "image": _image(site, app),
        "services": services(site, app),
        "commands": _commands(app),
        "environment_file": f"{directory}/app.env",
        "migrate_environment_file": f"{directory}/migrate.env",
        "network": f"bedstone-{app.name}",
        "hosts": {names.DATABASE_HOST: site.database_address} if app.database else {},
        "mounts": [
            {"source": names.CA_ON_HOST, "target": names.CA_IN_CONTAINER},
            *(
                {"source": _file_on_host(app, number), "target": file.target}
                for number, file in enumerate(app.files)
            ),
        ],
        "static": app.static.model_dump() if app.static else None,
        "media": app.media.model_dump() if app.media else None,
        "user": app.user,
        "read_only": app.read_only,
        "tmpfs": list(app.tmpfs),
        "database": _database(app),
    }


def _database(app: App) -> dict[str, str] | None:
    if not app.database:
        return None
    name = app.database.name or names.database_name(app.name)
    return {"name": name, "owner": names.owner_role(name)}


def _commands(app: App) -> dict[str, list[list[str]]]:
    return {
        "check": app.commands.check,
        "migrate": app.commands.migrate if app.database else [],
        "static": app.commands.static if app.static else [],
    }


def _image(site: Site, app: App) -> dict[str, Any]:
    state = f"{names.STATE_DIRECTORY}/{app.name}"
    if app.source.image is not None:
        return {"kind": "pull", "reference": app.source.image}
    if app.source.archive is not None:
        return {"kind": "load", "archive": f"{state}/image.tar"}
    if app.source.git is not None:
        return {
            "kind": "git",
            "url": app.source.git,
            "version": app.source.version,
            "dockerfile": app.build.dockerfile or "Dockerfile",
            "args": dict(app.build.args),
            "target": app.build.target,
            "default_dockerfile": False,
        }
    prepared = source.prepare(Path(site.path(app.source.path or ".")), app.build)
    return {
        "kind": "build",
        "archive": f"{state}/source.tar.gz",
        "dockerfile": prepared.dockerfile,
        "args": prepared.build_args,
        "target": app.build.target,
        "default_dockerfile": prepared.default_dockerfile is not None,
    }


def services(site: Site, app: App) -> dict[str, dict[str, Any]]:
    """Return an app's services with their routes and commands filled in."""
    routes = service_routes(app)
    result = {}
    for name, service in app.services.items():
        values = service.model_dump()
        values["route"] = routes.get(name)
        if service.command is None:
            values["command"] = _default_command(site, app, service)
        result[name] = values
    return result


def _default_command(site: Site, app: App, service: Service) -> list[str] | None:
    """Return gunicorn for a web service of the default Dockerfile, else the image's own."""
    if app.source.path is None or service.port is None:
        return None
    prepared = source.prepare(Path(site.path(app.source.path)), app.build)
    if prepared.default_dockerfile is None or prepared.default_dockerfile.wsgi is None:
        return None
    return [
        "gunicorn",
        prepared.default_dockerfile.wsgi,
        "--bind",
        f"0.0.0.0:{service.port}",
        "--worker-tmp-dir",
        "/dev/shm",  # noqa: S108 - gunicorn's heartbeat file: never on a disk
        "--access-logfile",
        "-",
    ]


def service_routes(app: App) -> dict[str, str]:
    """Return the routes by service; the only service with a port gets `/` by itself."""
    with_port = [name for name, service in app.services.items() if service.port is not None]
    routes = {name: s.route for name, s in app.services.items() if s.route is not None}
    if not routes and len(with_port) == 1 and app.domains:
        return {with_port[0]: "/"}
    return routes


# --- postgresql --------------------------------------------------------------------------


def postgresql_databases(site: Site) -> list[dict[str, Any]]:
    """Return role postgresql's databases: owner, two login roles, extensions."""
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
                "extensions": list(app.database.extensions),
            }
        )
    return result


def postgresql_listen_addresses(site: Site) -> list[str]:
    """Return where PostgreSQL listens: only where something of ours connects from."""
    addresses = ["localhost"]
    apps = site.groups.get("app", [])
    if site.host in apps:
        addresses.append(site.bridge_address)
    if any(host != site.host for host in apps):
        addresses.append(site.addresses[site.host])
    return addresses


def postgresql_allowed_networks(site: Site) -> list[str]:
    """Return the networks from which roles may log in, with TLS and a password."""
    networks = []
    for host in site.groups.get("app", []):
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
                "common_name": app.domains[0],
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
            "certificate": f"{names.TLS_DIRECTORY}/{app.name}.crt",
            "certificate_key": f"{names.TLS_DIRECTORY}/{app.name}.key",
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
    """Return role backup's databases, each with its app and its owner."""
    return [
        {"app": app.name, **database}
        for app in site.settings.apps
        if (database := _database(app)) is not None
    ]


def backup_media(site: Site) -> list[dict[str, str]]:
    """Return role backup's directories of uploads, each with its app."""
    return [
        {"app": app.name, "directory": f"{names.CONTENT_DIRECTORY}/{app.name}/media"}
        for app in site.settings.apps
        if app.media
    ]


def backup_keep_days(site: Site) -> int:
    """Return how many days of backups are kept."""
    return site.settings.backup.keep_days


def backup_time(site: Site) -> str:
    """Return when the nightly backup starts, as HH:MM."""
    return site.settings.backup.time


def backup_directory(site: Site) -> str:
    """Return where backups are kept on the server."""
    return site.settings.backup.directory


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
