"""What workers do."""

import socket

from celery import shared_task
from django.core.cache import caches


@shared_task
def add(numbers: list[int]) -> dict[str, object]:
    """Add numbers, and say which container did."""
    return {"sum": sum(numbers), "container": socket.gethostname()}


@shared_task
def tick() -> None:
    """Count what beat sends."""
    store = caches["store"]
    store.add("ticks", 0, timeout=None)
    store.incr("ticks")
