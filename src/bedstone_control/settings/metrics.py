"""Define the settings of the metrics that Prometheus collects."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, field_validator

from bedstone_control.settings.types import Model

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Metrics(Model):
    """Exporters on each server, for Prometheus: docs/metrics.md."""

    buckets: list[Seconds] = Field(
        default_factory=lambda: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
        min_length=1,
        max_length=30,
        description="Upper limits of the histogram of the requests' durations, in seconds.",
        examples=[[0.1, 0.3, 1, 3]],
    )

    @field_validator("buckets")
    @classmethod
    def _grow(cls, value: list[float]) -> list[float]:
        if any(one >= other for one, other in pairwise(value)):
            raise ValueError("each limit has to be larger than the one before: [0.1, 0.5, 1]")
        return value
