"""Define the settings of an app's Redis instances as a schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bedstone_control.settings.types import Model, database_or_none

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
