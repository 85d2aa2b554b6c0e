"""What workers do."""

import socket

from celery import Task, shared_task
from django.core.cache import caches

from core.models import Note


@shared_task
def add(numbers: list[int]) -> dict[str, object]:
    """Add numbers, and say which container did."""
    return {"sum": sum(numbers), "container": socket.gethostname()}


@shared_task(bind=True)
def record(self: Task, batch: str) -> None:
    """Write a row; one that is done twice writes two with the same text."""
    Note.objects.create(text=f"{batch} {self.request.id}")


@shared_task
def tick() -> None:
    """Count what beat sends."""
    store = caches["store"]
    store.add("ticks", 0, timeout=None)
    store.incr("ticks")
