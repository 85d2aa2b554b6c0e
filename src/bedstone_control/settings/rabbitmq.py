"""Define the settings of an app's part of RabbitMQ as a schema."""

from __future__ import annotations

from pydantic import Field

from bedstone_control.settings.types import Model


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
