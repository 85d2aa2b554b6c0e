"""The description of an app (``app.json``, schema 1) as typed, frozen values.

Ansible writes the file from the operator's settings, which it has checked; the
checks here are for people who edit it by hand, and for versions that differ.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bedstone import paths
from bedstone.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1
NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")

ImageKind = Literal["build", "git", "pull", "load"]


@dataclass(frozen=True)
class Image:
    """Where an app's image comes from.

    ``build`` needs ``archive`` (a tar of the source), ``git`` ``url`` (and takes
    ``version``), ``pull`` ``reference``, ``load`` ``archive`` (of `docker save`).
    ``label`` is a name for the source's version, shown in the release's id.
    """

    kind: ImageKind
    archive: str | None = None
    url: str | None = None
    version: str | None = None
    reference: str | None = None
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Service:
    """One process of an app: an HTTP service when it has a port, else a worker."""

    name: str
    command: tuple[str, ...] | None = None
    port: int | None = None
    route: str | None = None
    health: str | None = None
    health_timeout_seconds: int = 60
    replicas: int = 1
    memory_mb: int | None = None
    cpus: float | None = None
    pids: int = 512
    stop_seconds: int = 30

    @property
    def is_http(self) -> bool:
        """Whether it answers requests, and so moves between blue and green."""
        return self.port is not None

    def worker_slots(self) -> tuple[str, ...]:
        """Return the slots of a worker: one a replica, from ``1``."""
        return tuple(str(number) for number in range(1, self.replicas + 1))


@dataclass(frozen=True)
class Commands:
    """What is run in a new image before it serves; each a list of commands."""

    check: tuple[tuple[str, ...], ...] = ()
    migrate: tuple[tuple[str, ...], ...] = ()
    static: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Mount:
    """A file or directory of the server that the containers see, read only."""

    source: str
    target: str


@dataclass(frozen=True)
class Files:
    """A directory in the container whose files nginx serves below ``url``, if it has one."""

    path: str
    url: str | None


@dataclass(frozen=True)
class Database:
    """The app's database and the role that owns its tables (it can't log in)."""

    name: str
    owner: str


@dataclass(frozen=True)
class App:
    """An app as it is to run on this server."""

    name: str
    domains: tuple[str, ...]
    image: Image
    services: Mapping[str, Service]
    environment_file: str
    network: str
    commands: Commands = field(default_factory=Commands)
    migrate_environment_file: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    static: Files | None = None
    media: Files | None = None
    user: str | None = None
    read_only: bool = True
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108 - a path in the container
    database: Database | None = None
    https_port: int = 443
    text: str = field(default="", repr=False, compare=False)

    @property
    def http_services(self) -> tuple[Service, ...]:
        """The services that answer requests."""
        return tuple(service for service in self.services.values() if service.is_http)

    @property
    def workers(self) -> tuple[Service, ...]:
        """The services that don't."""
        return tuple(service for service in self.services.values() if not service.is_http)

    @property
    def main_domain(self) -> str | None:
        """The domain that probes use: the first that isn't a wildcard."""
        return next((name for name in self.domains if not name.startswith("*")), None)


def declared() -> list[str]:
    """Return the names of the apps that are declared on this server, sorted."""
    return sorted(path.parent.name for path in paths.apps_config().glob("*/app.json"))


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


class _Reader:
    """Reads one file; every complaint names the file and the place in it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, where: str, problem: str) -> ConfigError:
        return ConfigError(
            f"{self.source}: {where} {problem}",
            hint="Ansible writes this file: run `ansible-playbook playbooks/site.yml` again.",
        )

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
            hosts=self.string_mapping(top.get("hosts", {}), "hosts"),
            mounts=tuple(
                Mount(
                    self.string(self.mapping(item, "mounts").get("source"), "mounts: source"),
                    self.string(self.mapping(item, "mounts").get("target"), "mounts: target"),
                )
                for item in self.items(top.get("mounts", []), "mounts")
            ),
            static=self.files(top.get("static"), "static"),
            media=self.files(top.get("media"), "media"),
            user=self.optional_string(top.get("user"), "user"),
            read_only=self.boolean(top.get("read_only", True), "read_only"),
            tmpfs=self.strings(top.get("tmpfs", ["/tmp"]), "tmpfs"),  # noqa: S108
            database=None
            if database is None
            else Database(
                self.string(self.mapping(database, "database").get("name"), "database.name"),
                self.string(self.mapping(database, "database").get("owner"), "database.owner"),
            ),
            https_port=self.integer(top.get("https_port", 443), "https_port", 1, 65535),
            text=text,
        )

    def image(self, value: Any) -> Image:
        data = self.mapping(value, "image")
        kind = data.get("kind")
        needed = {
            "build": ("archive",),
            "git": ("url",),
            "pull": ("reference",),
            "load": ("archive",),
        }
        if kind not in needed:
            raise self.fail("image.kind", f"is {kind!r}; it is one of {', '.join(needed)}.")
        for key in needed[kind]:
            self.string(data.get(key), f"image.{key}")
        return Image(
            kind=kind,
            archive=self.optional_string(data.get("archive"), "image.archive"),
            url=self.optional_string(data.get("url"), "image.url"),
            version=self.optional_string(data.get("version"), "image.version"),
            reference=self.optional_string(data.get("reference"), "image.reference"),
            dockerfile=self.string(data.get("dockerfile") or "Dockerfile", "image.dockerfile"),
            args=self.string_mapping(data.get("args") or {}, "image.args"),
            target=self.optional_string(data.get("target"), "image.target"),
            label=self.optional_string(data.get("label"), "image.label"),
        )

    def service(self, name: str, value: Any) -> Service:
        where = f"services.{name}"
        data = self.mapping(value, where)
        port = data.get("port")
        memory = data.get("memory_mb")
        cpus = data.get("cpus")
        service = Service(
            name=name,
            command=None
            if data.get("command") is None
            else self.strings(data["command"], f"{where}.command"),
            port=None if port is None else self.integer(port, f"{where}.port", 1, 65535),
            route=self.url_path(data.get("route"), f"{where}.route"),
            health=self.url_path(data.get("health"), f"{where}.health"),
            health_timeout_seconds=self.integer(
                data.get("health_timeout_seconds", 60), f"{where}.health_timeout_seconds", 1, 3600
            ),
            replicas=self.integer(data.get("replicas", 1), f"{where}.replicas", 1, 64),
            memory_mb=None
            if memory is None
            else self.integer(memory, f"{where}.memory_mb", 6, 10_000_000),
            cpus=None if cpus is None else self.number(cpus, f"{where}.cpus"),
            pids=self.integer(data.get("pids", 512), f"{where}.pids", 1, 4_000_000),
            stop_seconds=self.integer(
                data.get("stop_seconds", 30), f"{where}.stop_seconds", 0, 86_400
            ),
        )
        if service.port is None and (service.route or service.health):
            raise self.fail(where, "has a route or a health path but no port.")
        if service.is_http and service.replicas != 1:
            raise self.fail(
                f"{where}.replicas",
                f"is {service.replicas}; a service with a port is one container, and its own"
                " server (gunicorn, uvicorn, ...) starts as many processes as you tell it.",
            )
        return service

    def commands(self, value: Any) -> Commands:
        data = self.mapping(value, "commands")
        return Commands(
            **{
                key: tuple(
                    self.strings(command, f"commands.{key}")
                    for command in self.items(data.get(key, []), f"commands.{key}")
                )
                for key in ("check", "migrate", "static")
            }
        )

    def files(self, value: Any, where: str) -> Files | None:
        if value is None:
            return None
        data = self.mapping(value, where)
        return Files(
            self.string(data.get("path"), f"{where}.path"),
            self.optional_string(data.get("url"), f"{where}.url"),
        )

    def name(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not NAME.match(value):
            raise self.fail(
                where,
                f"holds {value!r}; a name begins with a letter and holds up to 31 small letters,"
                " digits and dashes.",
            )
        return value

    def url_path(self, value: Any, where: str) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value.startswith("/"):
            raise self.fail(where, f"is {value!r}; a path begins with a slash.")
        return value

    def string(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.fail(where, f"is {value!r}; a text is needed.")
        return value

    def optional_string(self, value: Any, where: str) -> str | None:
        return None if value is None else self.string(value, where)

    def boolean(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise self.fail(where, f"is {value!r}; it is true or false.")
        return value

    def integer(self, value: Any, where: str, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.fail(
                where, f"is {value!r}; a whole number from {least} to {most} is needed."
            )
        return value

    def number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.fail(where, f"is {value!r}; a number above 0 is needed.")
        return float(value)

    def items(self, value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fail(where, f"is {value!r}; a list is needed.")
        return value

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(where, f"is {value!r}; an object is needed.")
        return value

    def strings(self, value: Any, where: str) -> tuple[str, ...]:
        return tuple(self.string(item, where) for item in self.items(value, where))

    def string_mapping(self, value: Any, where: str) -> dict[str, str]:
        return {
            key: self.text(item, f"{where}.{key}")
            for key, item in self.mapping(value, where).items()
        }

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise self.fail(where, f"is {value!r}; a text is needed.")
        return value
