"""Time limits of an app's services, and what the operations add to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.apps.config import App, Service


# What starting and stopping cost beyond the service's own limits.
START_SLACK_SECONDS = 150.0
STOP_SLACK_SECONDS = 90.0


def stop_seconds(services: Sequence[Service]) -> float:
    """Return how long stopping services may take at most."""
    return max((service.stop_seconds for service in services), default=0) + STOP_SLACK_SECONDS


def drain_seconds(app: App) -> float:
    """Return how long requests in flight are waited for."""
    return float(max((service.stop_seconds for service in app.http_services), default=0))
