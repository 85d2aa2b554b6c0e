"""Define the settings of one app as a schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bedstone_control import names
from bedstone_control.settings.data import Database, RabbitMq, Redis
from bedstone_control.settings.edge import Edge
from bedstone_control.settings.egress import Destination
from bedstone_control.settings.service import Job, Service
from bedstone_control.settings.source import Build, Origin, Source
from bedstone_control.settings.types import (
    Command,
    Commands,
    Model,
    Text,
    all_commands,
    database_or_none,
    path_and_url,
)

# Those of Docker's defaults that a program can use without reaching beyond its container.
Capability = Literal[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETPCAP",
    "SETUID",
]


class AppCommands(Model):
    """Commands that a release runs in the new image. Django's are the defaults; `[]` is none."""

    check: Commands = Field(
        default_factory=lambda: [
            ["python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
        ],
        description="Run before anything else; a failure stops the release. Django's `python "
        "manage.py check` runs with the migrations' login, in one start with the look at pending "
        "migrations.",
        examples=[["python manage.py check --deploy"]],
    )
    migrate: Commands = Field(
        default_factory=lambda: [["python", "manage.py", "migrate", "--noinput"]],
        description="Change the schema, as the database's migration role. None for an app without "
        "a database.",
        examples=[["alembic upgrade head"]],
    )
    static: Commands = Field(
        default_factory=lambda: [["python", "manage.py", "collectstatic", "--noinput"]],
        description="Fill the directory `static.path`. None for an app without `static`. Django's "
        "`python manage.py collectstatic` runs right after its `migrate`, in the same start.",
        examples=[["python manage.py collectstatic --noinput"]],
    )
    console: Command | None = Field(
        None,
        description="What `bedstone console APP` opens. Left out it is Django's shell where one "
        "of the other commands is Django's.",
        examples=["python manage.py shell_plus"],
    )


class Content(Model):
    """A directory of the container that nginx serves."""

    path: str = Field(description="Absolute path in the container.", examples=["/app/staticfiles"])
    url: str | None = Field(
        description="Path under which nginx serves it to everybody; `null` for uploads that only "
        "the app hands out.",
        examples=["/static/"],
    )


class Static(Content):
    """The directory of the static files."""

    service: str | None = Field(
        None,
        description="Service with a `source` of its own whose image holds the files, made by its "
        "build: `commands.static` does not run. The app's image when left out.",
        examples=["web"],
    )


class Media(Content):
    """The directory of the uploads."""

    private: bool = Field(
        False,
        description="Whether nginx serves `url` only where the app answers with "
        "`X-Accel-Redirect: URL`: the app decides who gets an upload, nginx sends it.",
        examples=[True],
    )
    backup: bool = Field(
        True,
        description="Whether the nightly backups hold the uploads. `false` where something else "
        "copies them, or the app can make them again.",
        examples=[False],
    )
    copy_every_minutes: int | None = Field(
        None,
        ge=5,
        le=1440,
        description="How often the uploads go to each destination of `bedstone_backup` between "
        "the nightly backups, in minutes; a timer looks every five minutes. Only what is new is "
        "sent, and what was deleted since can be restored for a day or two. Needs a destination.",
        examples=[15],
    )


class AppFile(Model):
    """A file that the app's containers find, read-only."""

    target: str = Field(
        description="Absolute path in the container.", examples=["/app/config/features.json"]
    )
    source: str | None = Field(
        None,
        description="File on your machine, relative to the inventory's directory. It may be "
        "encrypted with the vault.",
        examples=["files/features.json"],
    )
    content: str | None = Field(
        None,
        description="The text itself; may hold placeholders.",
        examples=['{"key": "${secret.api_key}"}'],
    )


class SourceMount(Model):
    """A checkout on the server in place of the source in the image, for development."""

    directory: str = Field(
        description="The checkout on the server, or a directory shared with your machine: below "
        "/home, /srv, /opt or /mnt, readable by the containers' user.",
        examples=["/srv/source/payments"],
    )
    target: str = Field(
        description="Absolute path in the container over which it lies, read-only.",
        examples=["/app"],
    )


class Tls(Model):
    """Certificate files of your own, in place of one from Bedstone's authority."""

    certificate: str = Field(
        description="PEM file on your machine with the certificate and its chain, relative to the "
        "inventory's directory.",
        examples=["files/pay.example.com.crt"],
    )
    key: str = Field(
        description="PEM file with the private key, encrypted with the vault.",
        examples=["files/pay.example.com.key"],
    )


class App(Model):
    """One web app."""

    name: str = Field(
        pattern=names.APP_NAME,
        description="Short name: names the containers, units, directories and the database.",
        examples=["payments"],
    )
    domains: list[str] = Field(
        default_factory=list,
        description="Domains under which the app answers; the first is its main one.",
        examples=[["pay.example.com"]],
    )
    redirects: list[str] = Field(
        default_factory=list,
        description="Further domains that lead to the first of `domains`, path and query kept. The "
        "certificate names them too.",
        examples=[["www.pay.example.com"]],
    )
    source: Source = Field(
        description="Where the image comes from.", examples=[{"path": "../../app"}]
    )
    build: Build = Field(
        default_factory=lambda: Build.model_validate({}),
        description="How the image is built.",
        examples=[{"args": {"BASE_IMAGE": "python:3.13-slim"}}],
    )
    services: dict[str, Service] = Field(
        min_length=1,
        description="The processes, by name.",
        examples=[{"web": {"command": "gunicorn config.wsgi", "port": 8000, "health": "/health/"}}],
    )
    jobs: dict[str, Job] = Field(
        default_factory=dict,
        description="Commands that run on a schedule, or by hand, by name.",
        examples=[{"cleanup": {"command": "python manage.py clearsessions", "schedule": "daily"}}],
    )
    env: dict[str, Text | None] = Field(
        default_factory=dict,
        description="Environment variables; values may hold placeholders; `null` takes a default "
        'variable away. What YAML would change is quoted: `"1.10"`, `"no"`, `"0755"`.',
        examples=[{"LOG_LEVEL": "INFO", "DB_HOST": "${database.host}"}],
    )
    default_env: bool = Field(
        True,
        description="Whether the app gets the default variables (DATABASE_URL, POSTGRES_*, "
        "SECRET_KEY, ALLOWED_HOSTS, CSRF_TRUSTED_ORIGINS, FORWARDED_ALLOW_IPS).",
        examples=[False],
    )
    static: Annotated[Static | None, path_and_url("/static/")] = Field(
        None,
        description="Static files: the path in the container to which the static command writes, "
        "or `{path, url, service}`.",
        examples=["/app/staticfiles"],
    )
    media: Annotated[Media | None, path_and_url("/media/")] = Field(
        None,
        description="Uploads: the path in the container, or `{path, url}`. Kept on the server, "
        "backed up.",
        examples=["/app/media"],
    )
    commands: Annotated[AppCommands, BeforeValidator(all_commands)] = Field(
        default_factory=lambda: AppCommands.model_validate({}),
        description="Commands of a release; `[]` for an app that has none.",
        examples=[{"check": [], "migrate": ["alembic upgrade head"], "static": []}],
    )
    migrations: Literal["django", "alembic", "none"] | None = Field(
        None,
        description="The tool that a release asks which migrations are pending and what they do, "
        "to stop before one that the running release can't live with. Guessed from "
        "`commands.migrate` when left out; `none` asks nothing.",
        examples=["django"],
    )
    restore_point: Literal["migrations", "always", "never"] = Field(
        "migrations",
        description="When a release backs up the database first: before it changes the schema "
        "(`migrations`), `always`, `never`.",
        examples=["always"],
    )
    database: Annotated[Database | None, BeforeValidator(database_or_none)] = Field(
        default_factory=lambda: Database.model_validate({}),
        description="The app's database; `false` for none.",
        examples=[{"extensions": ["pg_trgm"]}],
    )
    redis: Redis | None = Field(
        None,
        description="Redis instances of the app's own: a `cache`, a `store` that keeps its data, "
        "or both.",
        examples=[{"cache": {"memory_mb": 256}, "store": True}],
    )
    rabbitmq: Annotated[RabbitMq | None, BeforeValidator(database_or_none)] = Field(
        None,
        description="The app's own virtual host in RabbitMQ; `true` for one with the defaults.",
        examples=[{"longest_task_minutes": 240}],
    )
    egress: list[Destination] | None = Field(
        None,
        description="Where the containers may connect to outside of the server: nothing else is "
        "reached, `[]` is nowhere. Left out: anywhere. The app's database, Redis and RabbitMQ and "
        "the server's DNS resolvers belong to it. Building the image is not limited.",
        examples=[[{"networks": ["203.0.113.0/24"], "port": 443}]],
    )
    backup_checks: list[str] = Field(
        default_factory=list,
        description="SQL that is true in a database that is whole: asked of each backup when it "
        "is verified, in the throwaway database it was restored into. One value a query.",
        examples=[["SELECT count(*) > 0 FROM payments_request"]],
    )
    user: Text | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
        description="User (and group) of the processes; the image's when left out.",
        examples=["1000:1000"],
    )
    files: list[AppFile] = Field(
        default_factory=list,
        description="Further files in the containers.",
        examples=[[{"source": "files/features.json", "target": "/app/features.json"}]],
    )
    source_mount: SourceMount | None = Field(
        None,
        description="For development: the source from a directory of the server, so that a server "
        "that reloads (`gunicorn --reload`, `runserver`) shows a change without a release. "
        "Directories of `static`, `media`, `tmpfs` and `files` below `target` have to be in it. "
        "Services with a `source` of their own keep what is in their image.",
        examples=[{"directory": "/srv/source/payments", "target": "/app"}],
    )
    read_only: bool = Field(
        True,
        description="Whether the containers' root filesystem is read-only (`tmpfs` and `media` are "
        "not).",
        examples=[False],
    )
    tmpfs: list[str] = Field(
        default_factory=list,
        description="Directories in memory that the processes may write to. What lies there counts "
        "to `memory_mb`; without `size` it may take half of it. No program runs from there "
        "unless the entry says `exec`. `/tmp` is on the disk unless it is listed.",
        examples=[["/app/.cache", "/run/app:exec,size=64m"]],
    )
    capabilities: list[Capability] = Field(
        default_factory=list,
        description="Rights of root that the containers keep; none by default. An image that "
        "starts as root and changes to another user needs CHOWN, SETGID and SETUID; a program "
        "with file capabilities needs those it names.",
        examples=[["CHOWN", "SETGID", "SETUID"]],
    )
    init: bool = Field(
        True,
        description="Whether a small init is process 1, which passes signals on and removes "
        "processes that have ended. `false` for images with a supervisor of their own, which has "
        "to be process 1 (s6-overlay).",
        examples=[False],
    )
    tls: Tls | None = Field(
        None,
        description="Certificate files of your own, in place of one from `bedstone_acme` or, "
        "without that, from Bedstone's authority.",
        examples=[{"certificate": "files/pay.crt", "key": "files/pay.key"}],
    )
    acme: bool | None = Field(
        None,
        description="Whether the certificate comes from the authority of `bedstone_acme`. Left "
        "out: where that is set and the app has no `tls` of its own.",
        examples=[False],
    )
    max_body_mb: int = Field(
        20, ge=1, le=10240, description="Largest request body in MiB.", examples=[50]
    )
    timeout_seconds: int = Field(
        60, ge=1, le=3600, description="Longest wait of nginx for the app's answer.", examples=[120]
    )
    edge: Edge = Field(
        default_factory=lambda: Edge.model_validate({}),
        description="nginx in front of the app: limits for requests, address lists, passwords, "
        "rules for single paths (docs/edge.md).",
        examples=[{"rate": {"requests": 20, "enforce": True}}],
    )

    @property
    def origins(self) -> list[Origin]:
        """Where its images come from: the app's first, then those of services with their own."""
        own = ((name, s.source, s.build) for name, s in self.services.items())
        return [
            Origin("", self.source, self.build),
            *(Origin(name, source, build) for name, source, build in own if source is not None),
        ]

    @property
    def all_domains(self) -> list[str]:
        """All names that the app's certificate has: `domains` and `redirects`."""
        return [*self.domains, *self.redirects]
