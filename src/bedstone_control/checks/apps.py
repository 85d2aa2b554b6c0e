"""Check the names, services and routes of the apps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bedstone.apps import limits
from bedstone.core import names as host_names
from bedstone_control import names
from bedstone_control.roles import redis
from bedstone_control.roles.app_config import service_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings
    from bedstone_control.settings.service import Service

# Names that files and databases of Bedstone and PostgreSQL have already.
_RESERVED_APPS = {"ca", "pgbouncer", "postgresql", "rabbitmq", "redis"}
_RESERVED_DATABASES = {"postgres", "template0", "template1"}


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the apps, one by one and against each other."""
    yield from _colliding_names(context, settings)
    yield from _redis_ports(context, settings)
    for place, app in located(context, settings):
        yield from _services(context, place, app)
        yield from _routes(context, place, app)


def located(context: Context, settings: Settings) -> Iterator[tuple[Place, App]]:
    """Return the apps with their places in the settings file."""
    given = context.variables.get("bedstone_apps")
    items = given if isinstance(given, list) else []
    position = -1
    for app in settings.apps:
        # Apps too broken to be read are missing from the settings: skip them in the file too.
        position = next(
            (
                index
                for index in range(position + 1, len(items))
                if isinstance(items[index], dict) and items[index].get("name") == app.name
            ),
            position + 1,
        )
        yield ("bedstone_apps", position), app


def _redis_ports(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that each Redis instance has a port of its own."""
    taken: dict[int, str] = {}
    for place, app in located(context, settings):
        for kind, values in redis.kinds(app).items():
            port = redis.port(app.name, kind, values.port)
            other = taken.setdefault(port, f"{kind} of `{app.name}`")
            if other != f"{kind} of `{app.name}`":
                message = f"The Redis {other} has the port {port}, too."
                example = {"redis": {kind: {"port": redis.FIRST_PORT - 1}}}
                yield context.problem((*place, "redis", kind), message, example)


def _colliding_names(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that no two things have one name on the server."""
    apps: set[str] = set()
    databases: dict[str, str] = {}
    units: dict[tuple[str, str], tuple[str, str, str]] = {}
    for place, app in located(context, settings):
        if app.name in apps:
            message = f"Two apps are called `{app.name}`."
            yield context.problem((*place, "name"), message, {"name": f"{app.name}-two"})
            continue
        apps.add(app.name)
        if app.name in _RESERVED_APPS:
            message = f"The name `{app.name}` is taken by Bedstone itself."
            yield context.problem((*place, "name"), message, {"name": f"{app.name}-app"})
        if app.database:
            name = app.database.name or names.database_name(app.name)
            where = (*place, "database")
            example = {"database": {"name": f"{name}_two"}}
            if name.startswith("pg_"):
                message = (
                    f"PostgreSQL keeps names that begin with pg_ for itself, as `{name}` does."
                )
                yield context.problem(where, message, {"database": {"name": f"app_{name[3:]}"}})
            elif name in _RESERVED_DATABASES:
                yield context.problem(where, f"PostgreSQL has a database `{name}`.", example)
            elif name in databases:
                message = f"The apps `{databases[name]}` and `{app.name}` share the database {name}"
                yield context.problem(where, f"{message}; each needs its own.", example)
            databases.setdefault(name, app.name)
        for kind, name, taken in _units(app):
            other = units.setdefault(taken, (app.name, kind, name))
            if other != (app.name, kind, name):
                message = (
                    f"The {kind} and the {other[1]} `{other[2]}` of the app `{other[0]}` would "
                    f"both be called `{taken[1]}` on the server."
                )
                example = {"web": {}} if kind == "service" else {"cleanup": {}}
                yield context.problem((*place, f"{kind}s", name), message, example)
                break


def _units(app: App) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Return what takes a name: kind, name in the settings, and the name, of a unit or container.

    The container of a worker's third replica ends in -3, and so may a job's name.
    """
    for name, service in app.services.items():
        unit = names.upstream(app.name, name)
        yield "service", name, ("unit", unit)
        for number in range(1, service.replicas + 1):
            sides = [host_names.http_slot(side, number) for side in host_names.HTTP_SLOTS]
            for slot in sides if service.port is not None else [str(number)]:
                yield "service", name, ("container", f"{unit}-{slot}")
    for name in app.jobs:
        for kind in ("unit", "container"):
            yield "job", name, (kind, host_names.job_name(app.name, name))


def _services(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check names, ports, health paths and replicas of the services."""
    for name, service in app.services.items():
        where = (*place, "services", name)
        if not re.fullmatch(names.APP_NAME, name):
            message = (
                f"The service name `{name}` can't be used: lower-case letters, digits and dashes, "
                "a letter first, no dash last."
            )
            yield context.problem(where, message, {"web": {"port": 8000}})
        if service.route is not None and service.port is None:
            message = "A service with a route needs the port on which it answers."
            yield context.problem(where, message, {"port": 8000, "route": service.route})
        if service.route is not None and not re.fullmatch(names.URL_PATH, service.route):
            message = (
                "A route begins with a slash, then letters, digits and . _ ~ / -: the start of the "
                f"paths that go to the service, not a pattern. {service.route!r} does not fit."
            )
            yield context.problem((*where, "route"), message, {"route": "/api/"})
        if service.health is not None and not service.health.startswith("/"):
            message = f"A health path begins with a slash; {service.health!r} does not."
            yield context.problem((*where, "health"), message, {"health": "/health/"})
        if service.health is not None and service.port is None:
            message = "A health path needs the port on which the service answers."
            yield context.problem((*where, "health"), message, {"port": 8000, "health": "/health/"})
        yield from _liveness(context, (*where, "liveness"), service)
        yield from _restarts(context, (*where, "restarts"), service)
        if service.command is not None and not service.command:
            message = "A command is not empty; leave the key out for the image's own."
            yield context.problem((*where, "command"), message, {"command": "gunicorn config.wsgi"})


def _liveness(context: Context, where: Place, service: Service) -> Iterator[Problem]:
    """Check that the liveness probe of a service can be made."""
    wanted = service.liveness
    if wanted is None:
        return
    path = {"liveness": {"path": "/health/live"}}
    command = {"liveness": {"command": ["test", "-e", "/tmp/alive"]}}  # noqa: S108 - in the container
    if (wanted.path is None) == (wanted.command is None):
        message = "A liveness probe is a `path` or a `command`, one of them."
        yield context.problem(where, message, path if service.port else command)
    elif wanted.path is not None and service.port is None:
        message = "A path needs the port on which the service answers; a worker has a `command`."
        yield context.problem((*where, "path"), message, command)
    if wanted.path is not None and not re.fullmatch(r"/[!-~]*", wanted.path):
        message = f"A path begins with a slash and has no spaces; {wanted.path!r} does not fit."
        yield context.problem((*where, "path"), message, path)
    if wanted.command is not None and not wanted.command:
        message = "A command is not empty."
        yield context.problem((*where, "command"), message, command)
    if wanted.timeout_seconds > wanted.every_seconds:
        message = "`timeout_seconds` is longer than `every_seconds`: the next probe comes before."
        example = {"liveness": {"every_seconds": wanted.timeout_seconds}}
        yield context.problem((*where, "timeout_seconds"), message, example)


def _restarts(context: Context, where: Place, service: Service) -> Iterator[Problem]:
    """Check that a service can reach its limit of restarts."""
    wanted = service.restarts
    if wanted is None or wanted.within_seconds is None:
        return
    least = wanted.most * limits.RESTART_SECONDS
    if wanted.within_seconds < least:
        message = (
            f"{wanted.most} starts take at least {least} seconds, with the pauses between them: "
            f"the limit is never reached within {wanted.within_seconds}."
        )
        enough = limits.restarts_within_seconds(
            wanted.most, service.health_timeout_seconds, service.stop_seconds
        )
        example = {"restarts": {"most": wanted.most, "within_seconds": enough}}
        yield context.problem((*where, "within_seconds"), message, example)


def _routes(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check that each path of the domains goes to one service."""
    routes = service_routes(app)
    taken: dict[str, str] = {}
    for kind, content in (("static", app.static), ("media", app.media)):
        if content is not None and content.url is not None:
            taken[_normal(content.url)] = kind
    for name, path in routes.items():
        normal = _normal(path)
        if normal in taken:
            message = f"The route {path} goes to `{taken[normal]}` already."
            where = (*place, "services", name, "route")
            yield context.problem(where, message, {"route": f"/{name}/"})
        taken.setdefault(normal, name)
    if routes and not app.domains:
        message = "Services with a route need a domain under which they answer."
        yield context.problem((*place, "domains"), message, {"domains": ["pay.example.com"]})
    if app.domains and not routes:
        message = (
            "No service answers under the domains: one needs a `route`."
            if any(service.port for service in app.services.values())
            else "No service answers under the domains: one needs a `port`."
        )
        example = {"services": {"web": {"port": 8000, "route": "/"}}}
        yield context.problem((*place, "services"), message, example)


def _normal(path: str) -> str:
    return path.rstrip("/") or "/"
