"""Define the settings of where an app keeps its data: PostgreSQL, Redis, RabbitMQ."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bedstone_control.settings.types import Model, database_or_none


class Pool(Model):
    """A pool of connections that the app's processes share: PgBouncer, by transaction."""

    size: int = Field(
        10,
        ge=1,
        le=1000,
        description="How many connections it opens to PostgreSQL. Whichever process has a "
        "transaction to run gets one of them for it, others wait.",
        examples=[20],
    )


class Database(Model):
    """The app's database in PostgreSQL, with an owner, a migration and an app role."""

    name: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9_]{0,49}$",
        description="Name; the app's, with underscores for dashes, when left out.",
        examples=["payments"],
    )
    extensions: list[str] = Field(
        default_factory=list,
        description="Extensions that need a superuser to create.",
        examples=[["pg_trgm"]],
    )
    replica: bool = Field(
        default=False,
        description="Whether the app reads from a copy of the database, too, on a host of the "
        "group `postgresql_replica`: it gets DATABASE_REPLICA_URL and `${database.replica.…}`.",
        examples=[True],
    )
    lock_timeout_seconds: int = Field(
        5,
        ge=0,
        le=3600,
        description="How long a migration waits for a lock before it fails, and the release with "
        "it: as long as it waits, every query behind it does. 0 is for ever.",
        examples=[5],
    )
    connections: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="How many connections the app may have at once. Left out, an app alone gets "
        "all but 10; of several, none can take them all.",
        examples=[30],
    )
    pool: Annotated[Pool | None, BeforeValidator(database_or_none)] = Field(
        None,
        description="Let the app connect through PgBouncer, which shares few connections among "
        "many processes; `true` for one with the defaults. Migrations go past it "
        "(docs/your-app.md).",
        examples=[{"size": 10}],
    )
    client_certificate: bool = Field(
        default=False,
        description="Whether the app's sessions need a certificate as well as the password. "
        "Bedstone issues one to each of its two roles, renews it and mounts it; "
        "`${database.sslcert}` and `${database.sslkey}` are its paths.",
        examples=[True],
    )
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="PostgreSQL's settings for the app's sessions, its jobs' too. The defaults end "
        "a transaction that is idle for a minute and a statement after five.",
        examples=[{"idle_in_transaction_session_timeout": "10min"}],
    )


# It is a pattern in Redis' rights, and a label of a metric.
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@-]{1,128}$")]

_PORT = Field(
    None,
    ge=1024,
    le=65535,
    description="Its port on the server. Left out, it follows from the app's name.",
    examples=[16400],
)


class RedisCache(Model):
    """An instance that may lose what it holds: in memory only, the oldest keys make room."""

    memory_mb: int = Field(
        64, ge=16, le=1048576, description="Memory for its data, in MiB.", examples=[256]
    )
    eviction: Literal[
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-ttl",
        "volatile-random",
    ] = Field(
        "allkeys-lru",
        description="Which keys make room when the memory is used up (`maxmemory-policy`).",
        examples=["allkeys-lfu"],
    )
    port: int | None = _PORT


class RedisStore(Model):
    """An instance that keeps what it holds, on the disk as well: queues, results, sessions."""

    memory_mb: int = Field(
        128,
        ge=16,
        le=1048576,
        description="Memory for its data, in MiB; when it is used up, writes are refused.",
        examples=[512],
    )
    port: int | None = _PORT
    queues: list[QueueName] = Field(
        default_factory=list,
        description="Lists in it (database 0) whose length is measured, such as Celery's queues, "
        "where there are `bedstone_metrics` (docs/metrics.md).",
        examples=[["celery"]],
    )


class Redis(Model):
    """The app's own Redis instances, which no other app shares."""

    cache: Annotated[RedisCache | None, BeforeValidator(database_or_none)] = Field(
        None,
        description="A cache; `true` for one with the defaults.",
        examples=[{"memory_mb": 256}],
    )
    store: Annotated[RedisStore | None, BeforeValidator(database_or_none)] = Field(
        None,
        description="A store, such as Celery's broker; `true` for one with the defaults.",
        examples=[{"memory_mb": 512}],
    )

    @model_validator(mode="after")
    def _has_one(self) -> Redis:
        if self.cache is None and self.store is None:
            raise ValueError("has neither `cache` nor `store`; for example `redis: {cache: true}`")
        return self


class RabbitMq(Model):
    """A virtual host of the app's own in RabbitMQ, with a user that reaches no other one."""

    vhost: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_./-]{1,64}$",
        description="Name of the virtual host; the app's when left out.",
        examples=["/payments"],
    )
    longest_task_minutes: int = Field(
        30,
        ge=1,
        le=43200,
        description="How long a worker may take before it acknowledges a task (`acks_late`): after "
        "that RabbitMQ closes its channel and gives the task to another one. The longest of all "
        "apps counts.",
        examples=[240],
    )
    queues: list[QueueName] = Field(
        default_factory=list,
        description="Queues whose length is measured, where there are `bedstone_metrics` "
        "(docs/metrics.md).",
        examples=[["celery"]],
    )
