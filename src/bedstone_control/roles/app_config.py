"""Build an app's files for its server's host program: app.json, its other files and its source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bedstone.apps import environment
from bedstone.core import names as host_names
from bedstone_control import names
from bedstone_control.roles import guesses, postgresql
from bedstone_control.roles.environment import (
    hosts,
    login_variables,
    placeholder_values,
    secret_variables,
)
from bedstone_control.settings import gitserver, placeholders
from bedstone_control.settings.placeholders import expand
from bedstone_control.settings.published_ports import parse
from bedstone_control.source import archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App
    from bedstone_control.settings.service import Service
    from bedstone_control.settings.source import Build, Origin

_DEFAULT_REGISTRY = "docker.io"


def source_archive(site: Site, app: App, origin: Origin) -> str | None:
    """Return the archive on the controller that an image is made of, if any."""
    if origin.source.path is not None:
        prepared = _prepared(site, origin)
        return str(prepared.archive(site.cache_directory, _file(app.name, origin)))
    if origin.source.archive is not None:
        return site.path(origin.source.archive)
    return None


def image_sources(site: Site, app: App) -> dict[str, dict[str, Any]]:
    """Return what the images of services with their own need besides app.json, by service."""
    return {
        origin.service: {
            "source_archive": source_archive(site, app, origin),
            "registry": registry(site, app, origin),
            "source_secrets": source_secrets(site, app, origin),
        }
        for origin in app.origins
        if origin.service
    }


def _file(name: str, origin: Origin) -> str:
    return f"{name}-{origin.service}" if origin.service else name


def _prepared(site: Site, origin: Origin) -> archive.Prepared:
    directory = Path(site.path(origin.source.path or "."))
    return archive.prepare(directory, origin.build, git_directory=origin.source.git_directory)


def app_files(site: Site, app: App) -> list[dict[str, Any]]:
    """Return the further files of an app: where on the host, and source or content."""
    values = placeholder_values(site, app) if app.files else {}
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
    migrate_mounts = postgresql.client_mount(app, migrate=True)
    return {
        "schema": 1,
        "name": app.name,
        "domains": list(app.domains),
        "https_port": site.port("nginx_https_port"),
        "image": _image(site, app, app.origins[0]),
        "services": services(site, app),
        "jobs": {name: job.model_dump() for name, job in app.jobs.items()},
        "commands": _commands(app),
        "migrations": guesses.migration_tool(app),
        "restore_point": app.restore_point,
        "environment_file": f"{directory}/app.env",
        "migrate_environment_file": f"{directory}/migrate.env",
        "secret_variables": secret_variables(app, site.roles),
        "login_variables": login_variables(app, site.roles),
        "network": host_names.network(app.name),
        # Left out where there is none: the configuration of other apps stays the same.
        **({"limited": True} if app.egress is not None else {}),
        "hosts": hosts(site, app),
        "mounts": [
            {"source": names.CA_ON_HOST, "target": names.CA_IN_CONTAINER},
            *postgresql.client_mount(app),
            *_source_mount(app),
            *(
                {"source": _file_on_host(app, number), "target": file.target}
                for number, file in enumerate(app.files)
            ),
        ],
        # Left out where there is none: the configuration of other apps stays the same.
        **({"migrate_mounts": migrate_mounts} if migrate_mounts else {}),
        "static": _static(app),
        "media": _media(app),
        "user": app.user,
        "read_only": app.read_only,
        "tmpfs": list(app.tmpfs),
        "capabilities": list(app.capabilities),
        "init": app.init,
        "database": _database(site, app),
    }


def _source_mount(app: App) -> list[dict[str, Any]]:
    given = app.source_mount
    if given is None:
        return []
    return [{"source": given.directory, "target": given.target, "of_image": True}]


def _static(app: App) -> dict[str, Any] | None:
    # Without a service where there is none: the configuration of other apps stays the same.
    return app.static.model_dump(exclude_none=True) if app.static else None


def _media(app: App) -> dict[str, Any] | None:
    if app.media is None:
        return None
    values = app.media.model_dump(include={"path", "url"})
    # Left out where it is the default: the configuration of other apps stays the same.
    return values if app.media.backup else values | {"backup": False}


def _database(site: Site, app: App) -> dict[str, str] | None:
    """Return an app's database and its roles; the app's own role only where a login acts as it."""
    found = postgresql.database(app)
    if found is None or postgresql.has_client_certificate(app):
        return found
    own = {"role": names.app_role(found["name"]), "login": str(postgresql.login(site, app))}
    return {**found, **own}


def _commands(app: App) -> dict[str, Any]:
    return {
        "check": app.commands.check,
        "migrate": app.commands.migrate if app.database else [],
        "static": app.commands.static if app.static and not app.static.service else [],
        "console": guesses.console(app),
    }


def _image(site: Site, app: App, origin: Origin) -> dict[str, Any]:
    state = f"{names.STATE_DIRECTORY}/{app.name}"
    source, build = origin.source, origin.build
    if source.image is not None:
        return {"kind": "pull", "reference": source.image}
    if source.archive is not None:
        return {"kind": "load", "archive": f"{state}/{_file('image', origin)}.tar"}
    if source.git is not None:
        return {
            "kind": "git",
            "url": source.git,
            "version": source.version,
            "dockerfile": build.dockerfile or "Dockerfile",
            "args": _args(build.args),
            "target": build.target,
            **_secrets(build),
            "default_dockerfile": False,
        }
    prepared = _prepared(site, origin)
    return {
        "kind": "build",
        "archive": f"{state}/{_file('source', origin)}.tar.gz",
        "dockerfile": prepared.dockerfile,
        "args": _args(prepared.build_args),
        "target": build.target,
        **_secrets(build),
        "default_dockerfile": prepared.default_dockerfile is not None,
    }


def services(site: Site, app: App) -> dict[str, dict[str, Any]]:
    """Return an app's services with their routes and commands filled in."""
    routes = service_routes(app)
    own = {origin.service: origin for origin in app.origins}
    result = {}
    for name, service in app.services.items():
        values = service.model_dump(exclude={"source", "build"})
        if name in own:
            values["image"] = _image(site, app, own[name])
        values["route"] = routes.get(name)
        # Left out where there is none: the configuration of other apps stays the same.
        if ports := [entry for text in values.pop("publish") if (entry := parse(text))]:
            values["publish"] = [entry.argument() for entry in ports]
        for key in ("liveness", "restarts"):
            if values[key] is None:
                del values[key]
        if values.pop("env"):
            values["environment_file"] = (
                f"{names.CONFIG_DIRECTORY}/{app.name}/{environment.service_file(name)}"
            )
        if service.command is None:
            values["command"] = _default_command(site, own.get(name, own[""]), service)
        result[name] = values
    return result


def _default_command(site: Site, origin: Origin, service: Service) -> list[str] | None:
    """Return gunicorn for a web service of the default Dockerfile, else the image's own."""
    if origin.source.path is None or service.port is None:
        return None
    prepared = _prepared(site, origin)
    if prepared.default_dockerfile is None or prepared.default_dockerfile.wsgi is None:
        return None
    return [
        "gunicorn",
        prepared.default_dockerfile.wsgi,
        "--bind",
        f"0.0.0.0:{service.port}",
        # Threads let a worker keep nginx's idle connections open while it serves others.
        "--workers",
        "2",
        "--threads",
        "4",
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


def _args(args: Mapping[str, str]) -> dict[str, str]:
    """Return build arguments; those with a secret keep their placeholders."""
    return {
        name: text if placeholders.used(text) else expand(text, {}) for name, text in args.items()
    }


def _secrets(build: Build) -> dict[str, list[str]]:
    """Return the names of the build's secrets, whose values are elsewhere."""
    return {"secrets": sorted(build.secrets)} if build.secrets else {}


def source_secrets(site: Site, app: App, origin: Origin) -> dict[str, Any] | None:
    """Return what an image's source needs and app.json can't hold, None when that is nothing.

    app.json holds the same texts with their placeholders.
    """
    source, build = origin.source, origin.build
    values = {f"secret.{name}": text for name, text in site.app_secrets(app).items()}
    result: dict[str, Any] = {}
    if source.git is not None and placeholders.used(source.git):
        result["url"] = expand(
            source.git, {name: quote(text, safe="") for name, text in values.items()}
        )
    args = {name: text for name, text in build.args.items() if placeholders.used(text)}
    if args:
        result["args"] = {name: expand(text, values) for name, text in args.items()}
    if build.secrets:
        result["secrets"] = {name: expand(text, values) for name, text in build.secrets.items()}
    server = gitserver.parse(source.git) if source.git is not None else None
    if server is not None and server.ssh:
        result["deploy_key"] = site.app_secret(app, origin.secret("deploy_key")).strip() + "\n"
        result["known_hosts"] = gitserver.known_hosts(server, source.host_keys)
    return result or None


def registry(site: Site, app: App, origin: Origin) -> dict[str, str] | None:
    """Return the login for the registry that an image is pulled from, if it has one."""
    source = origin.source
    if source.image is None or source.registry_user is None:
        return None
    first, slash, _ = source.image.partition("/")
    # As Docker decides: a first part with a dot or a port is a host, else it is Docker Hub's.
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return {
        "server": first if is_host else _DEFAULT_REGISTRY,
        "username": source.registry_user,
        "password": site.app_secret(app, origin.secret("registry_password")),
    }
