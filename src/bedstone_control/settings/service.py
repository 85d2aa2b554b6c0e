"""Define the settings of an app's services and jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bedstone.apps import limits
from bedstone_control.settings.source import Build, Source
from bedstone_control.settings.types import Command, Model, Text

# What a program may take as "end, please"; the kill itself comes after `stop_seconds`.
StopSignal = Literal[
    "SIGTERM", "SIGQUIT", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGPWR"
]

Status = Annotated[int, Field(ge=limits.STATUS.least, le=limits.STATUS.most)]


class Liveness(Model):
    """How a service is asked, for as long as it runs, whether it still works."""

    path: str | None = Field(
        None,
        description="Path that answers 2xx (or `accept_status`) while the process works, without "
        "asking the database or another service: a restart mends none of them.",
        examples=["/health/live"],
    )
    command: Command | None = Field(
        None,
        description="Command that succeeds in the service's container while the process works; for "
        "services without a port. Its memory counts to `memory_mb`.",
        examples=[["sh", "-c", "celery -A shop inspect ping -d celery@$HOSTNAME"]],
    )
    every_seconds: int = Field(
        limits.DEFAULT_LIVENESS_EVERY,
        ge=limits.LIVENESS_EVERY.least,
        le=limits.LIVENESS_EVERY.most,
        description="Time from one probe to the next.",
        examples=[10],
    )
    timeout_seconds: int = Field(
        limits.DEFAULT_LIVENESS_TIMEOUT,
        ge=limits.LIVENESS_TIMEOUT.least,
        le=limits.LIVENESS_TIMEOUT.most,
        description="A probe without an answer after this time has failed; at most "
        "`every_seconds`.",
        examples=[5],
    )
    failures: int = Field(
        limits.DEFAULT_LIVENESS_FAILURES,
        ge=limits.LIVENESS_FAILURES.least,
        le=limits.LIVENESS_FAILURES.most,
        description="Failed probes in a row after which the service is restarted.",
        examples=[3],
    )


class Restarts(Model):
    """How often a service is started again before it stays stopped."""

    most: int = Field(
        ge=limits.RESTARTS.least,
        le=limits.RESTARTS.most,
        description="Starts within `within_seconds` after which a service that ends again stays "
        "stopped, until `bedstone restart APP`, a release or a boot starts it.",
        examples=[10],
    )
    within_seconds: int | None = Field(
        None,
        ge=limits.RESTARTS_WITHIN.least,
        le=limits.RESTARTS_WITHIN.most,
        description="The time in which the starts are counted. Left out, it is long enough for "
        "starts that don't get healthy: `most` times (`health_timeout_seconds` + `stop_seconds` "
        "+ 10).",
        examples=[900],
    )


class Service(Model):
    """One process of the app: the web server, a worker, a scheduler."""

    command: Command | None = Field(
        None,
        description="What runs; the image's own command when left out. One line of text, or a list "
        "of arguments. No shell reads it.",
        examples=["gunicorn config.wsgi --bind 0.0.0.0:8000"],
    )
    port: int | None = Field(
        None,
        ge=limits.PORT.least,
        le=limits.PORT.most,
        description="Port on which the process answers HTTP inside its container. None for a "
        "worker.",
        examples=[8000],
    )
    source: Source | None = Field(
        None,
        description="Where this service's image comes from, with the keys of the app's `source`; "
        "the app's image when left out. A release makes and replaces all images together.",
        examples=[{"path": "../../frontend"}],
    )
    build: Build = Field(
        default_factory=lambda: Build.model_validate({}),
        description="How the image of its `source` is built.",
        examples=[{"args": {"BASE_IMAGE": "node:22-slim"}}],
    )
    publish: list[str] = Field(
        default_factory=list,
        description="Ports of the server that lead to this service, for what speaks no HTTP: "
        "`[ADDRESS:]PORT:PORT_IN_THE_CONTAINER[/udp]`. Without an ADDRESS it is 0.0.0.0: anyone "
        "who reaches the server reaches the port. For services without `port`: a release stops "
        "the old container before it starts the new one, so connections break.",
        examples=[["5222:5222", "127.0.0.1:8125:8125/udp"]],
    )
    route: str | None = Field(
        None,
        description="Path of the domains that goes to this service. The only service with a port "
        "gets `/` by itself.",
        examples=["/"],
    )
    health: str | None = Field(
        None,
        description="Path that answers 2xx once the process can serve; a redirect does not count "
        "(see `accept_status`). Without one an open port counts as healthy.",
        examples=["/health/"],
    )
    accept_status: list[Status] = Field(
        [],
        description="Further statuses that count as a right answer: of the health path, and of the "
        "route when a release looks through the front door.",
        examples=[[302, 401]],
    )
    health_timeout_seconds: int = Field(
        limits.DEFAULT_HEALTH_TIMEOUT,
        ge=limits.HEALTH_TIMEOUT.least,
        le=limits.HEALTH_TIMEOUT.most,
        description="How long a new process may take until it is healthy.",
        examples=[60],
    )
    liveness: Liveness | None = Field(
        None,
        description="How to find out that the running service doesn't answer any more: then it is "
        "restarted, and the hooks for failures hear of it. Left out, only a process that ends is.",
        examples=[{"path": "/health/live"}],
    )
    restarts: Restarts | None = Field(
        None,
        description="How often it is started again before it stays stopped. Left out, for ever: a "
        "database that was away for a night is back in the morning.",
        examples=[{"most": 10}],
    )
    replicas: int = Field(
        1,
        ge=limits.REPLICAS.least,
        le=limits.REPLICAS.most,
        description="Number of containers. Of a service with a port all answer, each in turn; a "
        "release starts as many new ones before it stops the present ones.",
        examples=[2],
    )
    env: dict[str, Text | None] = Field(
        default_factory=dict,
        description="Environment variables of this service alone, in addition to the app's `env`: "
        "no other service, job or command of a release gets them. Values may hold placeholders; "
        "`null` takes a variable of the app away.",
        examples=[{"STRIPE_KEY": "${secret.stripe_key}", "DATABASE_URL": None}],
    )
    memory_mb: int | None = Field(
        None,
        ge=limits.MEMORY_MB.least,
        le=limits.MEMORY_MB.most,
        description="Memory limit of each replica in MiB; half of the server's memory when left "
        "out.",
        examples=[512],
    )
    cpus: float | None = Field(
        None,
        ge=0.01,
        allow_inf_nan=False,
        description="CPU limit of each replica in cores.",
        examples=[1.5],
    )
    pids: int = Field(
        limits.DEFAULT_PIDS,
        ge=limits.PIDS.least,
        le=limits.PIDS.most,
        description="Limit of processes and threads in the container.",
        examples=[512],
    )
    stop_seconds: int = Field(
        limits.DEFAULT_STOP,
        ge=limits.STOP.least,
        le=limits.STOP.most,
        description="Time between the request to stop and the kill: as long as the longest request "
        "or task.",
        examples=[30],
    )
    stop_signal: StopSignal | None = Field(
        None,
        description="Signal that asks the process to stop; the image's own (mostly SIGTERM) when "
        "left out.",
        examples=["SIGQUIT"],
    )


class Job(Model):
    """A command that runs now and then, in a container of its own of the serving release."""

    command: Command = Field(
        description="What runs. One line of text, or a list of arguments. No shell reads it.",
        examples=["python manage.py clearsessions"],
    )
    schedule: str | None = Field(
        None,
        description="When, as systemd has it (`systemd.time(7)`), in the servers' time zone: "
        "`daily`, `Mon..Fri 07:30`, `*-*-* *:00/15`. One that was missed is made up for. Without "
        "a schedule it runs by hand alone: `bedstone job APP JOB`.",
        examples=["*-*-* 04:00:00"],
    )
    timeout_seconds: int = Field(
        limits.DEFAULT_JOB_TIMEOUT,
        ge=limits.JOB_TIMEOUT.least,
        le=limits.JOB_TIMEOUT.most,
        description="Longest time it may take; then it is stopped and counts as failed.",
        examples=[600],
    )
    memory_mb: int | None = Field(
        None,
        ge=limits.MEMORY_MB.least,
        le=limits.MEMORY_MB.most,
        description="Memory limit in MiB; half of the server's memory when left out.",
        examples=[512],
    )
    cpus: float | None = Field(
        None, ge=0.01, allow_inf_nan=False, description="CPU limit in cores.", examples=[1.5]
    )
    pids: int = Field(
        limits.DEFAULT_PIDS,
        ge=limits.PIDS.least,
        le=limits.PIDS.most,
        description="Limit of processes and threads in the container.",
        examples=[512],
    )
