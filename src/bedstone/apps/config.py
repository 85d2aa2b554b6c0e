"""Read the description of an app (``app.json``, schema 1) as typed, frozen values.

Ansible writes the file from the operator's settings, which it has checked; the checks here are for
files edited by hand, and for versions that differ.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bedstone.apps import environment, limits
from bedstone.core import names, paths
from bedstone.core.errors import ConfigError
from bedstone.core.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1
# The tools that say which migrations are applied and which are pending.
MIGRATION_TOOLS = ("django", "alembic", "none")
# When a release makes a restore point: before one that changes the schema, always, never.
RESTORE_POINTS = ("migrations", "always", "never")

ImageKind = Literal["build", "git", "pull", "load"]


@dataclass(frozen=True)
class Image:
    """The source of an app's image.

    ``build`` needs ``archive`` (a tar of the source), ``git`` ``url`` (and takes
    ``version``), ``pull`` ``reference``, ``load`` ``archive`` (of `docker save`).
    ``secrets`` are the names of the build's secrets; their values, and those of the placeholders
    in ``url`` and ``args``, are in `source_secrets`.
    ``label`` is a name for the source's version, shown in the release's id.
    """

    kind: ImageKind
    archive: str | None = None
    url: str | None = None
    version: str | None = None
    reference: str | None = None
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    target: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Liveness:
    """How a service is asked whether it still works: by a path, or a command in its container."""

    path: str | None = None
    command: tuple[str, ...] | None = None
    every_seconds: int = limits.DEFAULT_LIVENESS_EVERY
    timeout_seconds: int = limits.DEFAULT_LIVENESS_TIMEOUT
    failures: int = limits.DEFAULT_LIVENESS_FAILURES


@dataclass(frozen=True)
class Service:
    """One process of an app: an HTTP service when it has a port, else a worker.

    ``image`` is its own, None when it runs the app's.
    """

    name: str
    image: Image | None = None
    command: tuple[str, ...] | None = None
    port: int | None = None
    route: str | None = None
    health: str | None = None
    accept_status: tuple[int, ...] = ()
    health_timeout_seconds: int = limits.DEFAULT_HEALTH_TIMEOUT
    replicas: int = 1
    memory_mb: int | None = None
    cpus: float | None = None
    pids: int = limits.DEFAULT_PIDS
    stop_seconds: int = limits.DEFAULT_STOP
    stop_signal: str | None = None
    publish: tuple[str, ...] = ()
    environment_file: str | None = None
    liveness: Liveness | None = None

    @property
    def is_http(self) -> bool:
        """Return whether it answers requests, and so moves between blue and green."""
        return self.port is not None

    def keys(self, serving: str) -> list[str]:
        """Return ``SERVICE@SLOT`` of each replica.

        Args:
            serving: the side on which HTTP services run, ``blue`` or ``green``; workers have none.

        """
        numbers = range(1, self.replicas + 1)
        slots = [names.http_slot(serving, n) if self.is_http else str(n) for n in numbers]
        return [f"{self.name}@{slot}" for slot in slots]


@dataclass(frozen=True)
class Job:
    """A command that runs now and then in the app's image, in a container of its own.

    ``schedule`` is a time of systemd.time(7); without one it runs by hand alone.
    """

    name: str
    command: tuple[str, ...]
    schedule: str | None = None
    timeout_seconds: int = limits.DEFAULT_JOB_TIMEOUT
    memory_mb: int | None = None
    cpus: float | None = None
    pids: int = limits.DEFAULT_PIDS


@dataclass(frozen=True)
class Commands:
    """The commands that run in a new image before it serves: lists; and the console, one."""

    check: tuple[tuple[str, ...], ...] = ()
    migrate: tuple[tuple[str, ...], ...] = ()
    static: tuple[tuple[str, ...], ...] = ()
    console: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Mount:
    """A file or directory of the server that the containers see, read only.

    Attributes:
        source: where on the server.
        target: where in the container.
        group: the server's group that may read it, which the containers' processes get.
        of_image: whether it takes the place of what the app's image has there: services with an
            image of their own are without it.

    """

    source: str
    target: str
    group: str | None = None
    of_image: bool = False


@dataclass(frozen=True)
class Files:
    """A directory in the container whose files nginx serves below ``url``, if it has one.

    ``backup`` says whether backups are to hold them, if they are uploads; ``service`` whose image
    holds them, if they are static files, None for the app's.
    """

    path: str
    url: str | None
    backup: bool = True
    service: str | None = None


@dataclass(frozen=True)
class Database:
    """The app's database and its roles.

    Attributes:
        name: the database.
        owner: the role that owns its tables; it can't log in.
        role: the role that the app acts as, None when that logs in itself.
        login: the role that the app logs in as, a member of it: one for each password.

    """

    name: str
    owner: str
    role: str | None = None
    login: str | None = None


@dataclass(frozen=True)
class App:
    """An app as it is to run on this server.

    ``migrations`` is one of `MIGRATION_TOOLS`, ``restore_point`` one of
    `RESTORE_POINTS`; ``migrate_mounts`` take the place of the ``mounts`` with the same target in
    containers that migrate; ``limited`` says that the firewall has a list of where its containers
    may connect to; ``secret_variables`` are the names of the environment's
    variables whose values must never be shown, ``login_variables`` of those that hold
    the name of the app's login to its database or broker.
    """

    name: str
    domains: tuple[str, ...]
    image: Image
    services: Mapping[str, Service]
    environment_file: str
    network: str
    limited: bool = False
    commands: Commands = field(default_factory=Commands)
    migrate_environment_file: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    migrate_mounts: tuple[Mount, ...] = ()
    static: Files | None = None
    media: Files | None = None
    user: str | None = None
    read_only: bool = True
    tmpfs: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    init: bool = True
    database: Database | None = None
    https_port: int = 443
    jobs: Mapping[str, Job] = field(default_factory=dict)
    migrations: str = "none"
    restore_point: str = "migrations"
    secret_variables: tuple[str, ...] = ()
    login_variables: tuple[str, ...] = ()
    text: str = field(default="", repr=False, compare=False)

    @property
    def environment_files(self) -> dict[str, str]:
        """Where the environments are: the app's, its migrations', those of services; by name."""
        return {
            environment.APP: self.environment_file,
            environment.MIGRATE: self.migrate_environment_file or self.environment_file,
            **{
                environment.service_file(service.name): service.environment_file
                for service in self.services.values()
                if service.environment_file is not None
            },
        }

    @property
    def rotating_variables(self) -> frozenset[str]:
        """The variables whose values follow the vault, of which a rollback takes today's."""
        return frozenset((*self.secret_variables, *self.login_variables))

    @property
    def images(self) -> dict[str, Image]:
        """The images that a release of it makes: the app's as ``""``, others by their service."""
        own = {name: service.image for name, service in self.services.items()}
        return {"": self.image, **{name: image for name, image in own.items() if image}}

    @property
    def http_services(self) -> tuple[Service, ...]:
        """The services that answer requests."""
        return tuple(service for service in self.services.values() if service.is_http)

    @property
    def workers(self) -> tuple[Service, ...]:
        """The services that don't."""
        return tuple(service for service in self.services.values() if not service.is_http)

    def slot_keys(self, serving: str) -> list[str]:
        """Return ``SERVICE@SLOT`` of all that runs of it, HTTP services first."""
        services = (*self.http_services, *self.workers)
        return [key for service in services for key in service.keys(serving)]

    @property
    def main_domain(self) -> str | None:
        """The domain that probes use: the first that isn't a wildcard."""
        return next((name for name in self.domains if not name.startswith("*")), None)


def declared() -> list[str]:
    """Return the names of the apps that are declared on this server, sorted."""
    return sorted(path.parent.name for path in paths.apps_config().glob("*/app.json"))


def declared_parts() -> dict[str, set[str]]:
    """Return the declared apps with the names of their services and jobs, to tell units by.

    A file that can't be read has none: its app is known all the same.
    """
    found: dict[str, set[str]] = {}
    for app in declared():
        found[app] = set()
        with suppress(OSError, ValueError, AttributeError):
            data = json.loads(paths.app_config(app).read_text(encoding="utf-8"))
            for key in ("services", "jobs"):
                found[app] |= set(data.get(key) or {})
    return found


def load(app: str) -> App:
    """Return the declared app of that name.

    Raises:
        ConfigError: no such app (the message lists those there are), or its
            file is wrong (the message says where).

    """
    if app not in declared():
        known = ", ".join(declared()) or "none"
        raise ConfigError(
            f"No app is called {app!r} on this server. Declared: {known}.",
            hint="Apps come from `bedstone_apps` in the inventory's settings.yml;"
            " `ansible-playbook playbooks/site.yml` puts them on the server.",
        )
    return load_file(paths.app_config(app))


def load_file(path: Path) -> App:
    """Return the app that a file describes.

    Raises:
        ConfigError: the file can't be read, or isn't right.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from error
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} isn't JSON: {error}.") from error
    return parse(data, str(path), text)


def parse(data: Any, source: str = "app.json", text: str = "") -> App:
    """Return the app that parsed JSON describes.

    Raises:
        ConfigError: says the place in the file, what is there and what should be.

    """
    return _Reader(source).app(data, text)


class _Reader(Fields):
    """Reads one app.json."""

    def app(self, data: Any, text: str) -> App:
        top = self.mapping(data, "the file")
        if top.get("schema") != SCHEMA:
            raise self.fail(
                "schema",
                f"is {top.get('schema')!r}; this program ({SCHEMA=}) and the file don't fit"
                " each other.",
            )
        name = self.name(top.get("name"), "name")
        services = {
            key: self.service(self.name(key, "services"), value)
            for key, value in self.mapping(top.get("services"), "services").items()
        }
        if not services:
            raise self.fail("services", "is empty; an app has at least one service.")
        database = top.get("database")
        return App(
            name=name,
            domains=self.strings(top.get("domains", []), "domains"),
            image=self.image(top.get("image")),
            services=services,
            commands=self.commands(top.get("commands", {})),
            environment_file=self.string(top.get("environment_file"), "environment_file"),
            migrate_environment_file=self.optional_string(
                top.get("migrate_environment_file"), "migrate_environment_file"
            ),
            network=self.string(top.get("network"), "network"),
            limited=self.boolean(top.get("limited", False), "limited"),
            hosts=self.string_mapping(top.get("hosts", {}), "hosts"),
            mounts=self.mounts(top, "mounts"),
            migrate_mounts=self.mounts(top, "migrate_mounts"),
            static=self.files(top.get("static"), "static"),
            media=self.files(top.get("media"), "media"),
            user=self.optional_string(top.get("user"), "user"),
            read_only=self.boolean(top.get("read_only", True), "read_only"),
            tmpfs=self.strings(top.get("tmpfs", []), "tmpfs"),
            capabilities=self.strings(top.get("capabilities", []), "capabilities"),
            init=self.boolean(top.get("init", True), "init"),
            database=None if database is None else self.database(database),
            https_port=self.integer(top.get("https_port", 443), "https_port", 1, 65535),
            jobs={
                key: self.job(self.name(key, "jobs"), value)
                for key, value in self.mapping(top.get("jobs", {}), "jobs").items()
            },
            migrations=self.choice(top.get("migrations", "none"), "migrations", MIGRATION_TOOLS),
            restore_point=self.choice(
                top.get("restore_point", "migrations"), "restore_point", RESTORE_POINTS
            ),
            secret_variables=self.strings(top.get("secret_variables", []), "secret_variables"),
            login_variables=self.strings(top.get("login_variables", []), "login_variables"),
            text=text,
        )

    def mounts(self, top: Mapping[str, Any], key: str) -> tuple[Mount, ...]:
        return tuple(
            Mount(
                self.string(self.mapping(item, key).get("source"), f"{key}: source"),
                self.string(self.mapping(item, key).get("target"), f"{key}: target"),
                self.optional_string(self.mapping(item, key).get("group"), f"{key}: group"),
                self.boolean(self.mapping(item, key).get("of_image", False), f"{key}: of_image"),
            )
            for item in self.items(top.get(key, []), key)
        )

    def database(self, value: Any) -> Database:
        data = self.mapping(value, "database")
        return Database(
            name=self.string(data.get("name"), "database.name"),
            owner=self.string(data.get("owner"), "database.owner"),
            role=self.optional_string(data.get("role"), "database.role"),
            login=self.optional_string(data.get("login"), "database.login"),
        )

    def image(self, value: Any, where: str = "image") -> Image:
        data = self.mapping(value, where)
        kind = data.get("kind")
        needed = {
            "build": ("archive",),
            "git": ("url",),
            "pull": ("reference",),
            "load": ("archive",),
        }
        if kind not in needed:
            raise self.fail(f"{where}.kind", f"is {kind!r}; it is one of {', '.join(needed)}.")
        for key in needed[kind]:
            self.string(data.get(key), f"{where}.{key}")
        return Image(
            kind=kind,
            archive=self.optional_string(data.get("archive"), f"{where}.archive"),
            url=self.optional_string(data.get("url"), f"{where}.url"),
            version=self.optional_string(data.get("version"), f"{where}.version"),
            reference=self.optional_string(data.get("reference"), f"{where}.reference"),
            dockerfile=self.string(data.get("dockerfile") or "Dockerfile", f"{where}.dockerfile"),
            args=self.string_mapping(data.get("args") or {}, f"{where}.args"),
            secrets=self.strings(data.get("secrets") or [], f"{where}.secrets"),
            target=self.optional_string(data.get("target"), f"{where}.target"),
            label=self.optional_string(data.get("label"), f"{where}.label"),
        )

    def service(self, name: str, value: Any) -> Service:
        where = f"services.{name}"
        data = self.mapping(value, where)
        port = data.get("port")
        own = data.get("image")
        service = Service(
            name=name,
            image=None if own is None else self.image(own, f"{where}.image"),
            command=None
            if data.get("command") is None
            else self.command(data["command"], f"{where}.command"),
            port=None if port is None else self.integer(port, f"{where}.port", *limits.PORT),
            route=self.url_path(data.get("route"), f"{where}.route"),
            health=self.url_path(data.get("health"), f"{where}.health"),
            accept_status=tuple(
                self.integer(item, f"{where}.accept_status", *limits.STATUS)
                for item in self.items(data.get("accept_status") or [], f"{where}.accept_status")
            ),
            health_timeout_seconds=self.integer(
                data.get("health_timeout_seconds", limits.DEFAULT_HEALTH_TIMEOUT),
                f"{where}.health_timeout_seconds",
                *limits.HEALTH_TIMEOUT,
            ),
            replicas=self.integer(data.get("replicas", 1), f"{where}.replicas", *limits.REPLICAS),
            stop_seconds=self.integer(
                data.get("stop_seconds", limits.DEFAULT_STOP), f"{where}.stop_seconds", *limits.STOP
            ),
            stop_signal=self.optional_string(data.get("stop_signal"), f"{where}.stop_signal"),
            publish=self.strings(data.get("publish") or [], f"{where}.publish"),
            environment_file=self.optional_string(
                data.get("environment_file"), f"{where}.environment_file"
            ),
            liveness=self.liveness(data.get("liveness"), f"{where}.liveness"),
            **self.limits(data, where),
        )
        if service.publish and (service.is_http or service.replicas != 1):
            raise self.fail(
                f"{where}.publish",
                "is for one container alone: no `port`, no `replicas` with it.",
            )
        if service.port is None and (service.route or service.health):
            raise self.fail(where, "has a route or a health path but no port.")
        if service.liveness and service.liveness.path is not None and not service.is_http:
            raise self.fail(f"{where}.liveness.path", "needs a port; a worker has a `command`.")
        return service

    def liveness(self, value: Any, where: str) -> Liveness | None:
        if value is None:
            return None
        data = self.mapping(value, where)
        path, command = data.get("path"), data.get("command")
        if (path is None) == (command is None):
            raise self.fail(where, "has a `path` or a `command`, one of them.")
        liveness = Liveness(
            path=self.url_path(path, f"{where}.path"),
            command=None if command is None else self.command(command, f"{where}.command"),
            every_seconds=self.integer(
                data.get("every_seconds", limits.DEFAULT_LIVENESS_EVERY),
                f"{where}.every_seconds",
                *limits.LIVENESS_EVERY,
            ),
            timeout_seconds=self.integer(
                data.get("timeout_seconds", limits.DEFAULT_LIVENESS_TIMEOUT),
                f"{where}.timeout_seconds",
                *limits.LIVENESS_TIMEOUT,
            ),
            failures=self.integer(
                data.get("failures", limits.DEFAULT_LIVENESS_FAILURES),
                f"{where}.failures",
                *limits.LIVENESS_FAILURES,
            ),
        )
        if liveness.timeout_seconds > liveness.every_seconds:
            raise self.fail(f"{where}.timeout_seconds", "is longer than `every_seconds`.")
        return liveness

    def job(self, name: str, value: Any) -> Job:
        where = f"jobs.{name}"
        data = self.mapping(value, where)
        command = self.command(data.get("command"), f"{where}.command")
        if not command:
            raise self.fail(f"{where}.command", "is empty; a job runs a command.")
        return Job(
            name=name,
            command=command,
            schedule=self.optional_string(data.get("schedule"), f"{where}.schedule"),
            timeout_seconds=self.integer(
                data.get("timeout_seconds", limits.DEFAULT_JOB_TIMEOUT),
                f"{where}.timeout_seconds",
                *limits.JOB_TIMEOUT,
            ),
            **self.limits(data, where),
        )

    def limits(self, data: dict[str, Any], where: str) -> dict[str, Any]:
        memory, cpus = data.get("memory_mb"), data.get("cpus")
        return {
            "memory_mb": None
            if memory is None
            else self.integer(memory, f"{where}.memory_mb", *limits.MEMORY_MB),
            "cpus": None if cpus is None else self.number(cpus, f"{where}.cpus"),
            "pids": self.integer(
                data.get("pids", limits.DEFAULT_PIDS), f"{where}.pids", *limits.PIDS
            ),
        }

    def commands(self, value: Any) -> Commands:
        data = self.mapping(value, "commands")
        console = data.get("console")
        return Commands(
            **{
                key: tuple(
                    self.command(command, f"commands.{key}")
                    for command in self.items(data.get(key, []), f"commands.{key}")
                )
                for key in ("check", "migrate", "static")
            },
            console=None if console is None else self.command(console, "commands.console"),
        )

    def files(self, value: Any, where: str) -> Files | None:
        if value is None:
            return None
        data = self.mapping(value, where)
        return Files(
            self.string(data.get("path"), f"{where}.path"),
            self.optional_string(data.get("url"), f"{where}.url"),
            self.boolean(data.get("backup", True), f"{where}.backup"),
            self.optional_string(data.get("service"), f"{where}.service"),
        )
