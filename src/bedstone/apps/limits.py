"""Limits of an app's services and jobs: ranges, defaults, and the time that is added to them.

The settings' schema, the app's configuration on the server, its units and its releases take them
from here, so that none waits shorter than the one inside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.apps.config import App, Service


class Range(NamedTuple):
    """The least and the most that a whole number may be."""

    least: int
    most: int


PORT = Range(1, 65_535)
STATUS = Range(200, 599)
REPLICAS = Range(1, 64)
# Docker's own minimum is 6 MiB.
MEMORY_MB = Range(6, 10_000_000)
PIDS = Range(1, 4_000_000)
DEFAULT_PIDS = 512

# Seconds.
HEALTH_TIMEOUT = Range(1, 3600)
DEFAULT_HEALTH_TIMEOUT = 60
STOP = Range(0, 86_400)
DEFAULT_STOP = 30
LIVENESS_EVERY = Range(1, 3600)
DEFAULT_LIVENESS_EVERY = 10
LIVENESS_TIMEOUT = Range(1, 600)
DEFAULT_LIVENESS_TIMEOUT = 5
LIVENESS_FAILURES = Range(1, 100)
DEFAULT_LIVENESS_FAILURES = 3
# Starts of a service, the first one included: one alone would be no restart.
RESTARTS = Range(2, 1000)
RESTARTS_WITHIN = Range(4, 604_800)
JOB_TIMEOUT = Range(1, 604_800)
DEFAULT_JOB_TIMEOUT = 3600

# What a unit has in addition to its service's limits: starting the container on a busy server, and
# Docker's own work after the program has ended.
UNIT_START_SLACK_SECONDS = 120
UNIT_STOP_SLACK_SECONDS = 60
# The least from one start of a service to the next: the unit's RestartSec, the container's start.
RESTART_SECONDS = 2
# What a start that fails takes beyond its limits, while the server isn't overloaded.
_RESTART_SLACK_SECONDS = 10
# A job's program ends it in time; systemd is there for that program.
JOB_SLACK_SECONDS = 120
JOB_STOP_SECONDS = 120
# An operation waits longer than the unit that it starts or stops.
_WAIT_SECONDS = 30
START_SLACK_SECONDS = float(UNIT_START_SLACK_SECONDS + _WAIT_SECONDS)
STOP_SLACK_SECONDS = float(UNIT_STOP_SLACK_SECONDS + _WAIT_SECONDS)


def unit_start_seconds(health_timeout: int | None, stop: int | None) -> int:
    """Return the limit of a service's unit until it is ready: one that isn't is stopped, too."""
    health = DEFAULT_HEALTH_TIMEOUT if health_timeout is None else health_timeout
    return health + (DEFAULT_STOP if stop is None else stop) + UNIT_START_SLACK_SECONDS


def unit_stop_seconds(stop: int | None) -> int:
    """Return the limit of a service's unit until it has ended."""
    return (DEFAULT_STOP if stop is None else stop) + UNIT_STOP_SLACK_SECONDS


def restarts_within_seconds(most: int, health_timeout: int | None, stop: int | None) -> int:
    """Return a time in which a service that never gets healthy is started so many times.

    systemd counts starts in a window: in a shorter one, only crashes at once reach the limit.

    Args:
        most: starts after which a service stays stopped.
        health_timeout: its `health_timeout_seconds`.
        stop: its `stop_seconds`.

    """
    health = DEFAULT_HEALTH_TIMEOUT if health_timeout is None else health_timeout
    return most * (health + (DEFAULT_STOP if stop is None else stop) + _RESTART_SLACK_SECONDS)


def undo_seconds(services: Sequence[tuple[int | None, int | None]]) -> int:
    """Return how long undoing a release may take when it is called off.

    Requests in the new slot end, the previous workers start again, the new slot stops.

    Args:
        services: of each service `health_timeout_seconds` and `stop_seconds`, None for the default.

    """
    start = max(
        (DEFAULT_HEALTH_TIMEOUT if s[0] is None else s[0] for s in services),
        default=DEFAULT_HEALTH_TIMEOUT,
    )
    stop = max((DEFAULT_STOP if s[1] is None else s[1] for s in services), default=0)
    return 3 * stop + start + UNIT_START_SLACK_SECONDS + UNIT_STOP_SLACK_SECONDS


def stop_seconds(services: Sequence[Service]) -> float:
    """Return how long stopping services may take at most."""
    return max((service.stop_seconds for service in services), default=0) + STOP_SLACK_SECONDS


def drain_seconds(app: App) -> float:
    """Return how long requests in flight are waited for."""
    return float(max((service.stop_seconds for service in app.http_services), default=0))
