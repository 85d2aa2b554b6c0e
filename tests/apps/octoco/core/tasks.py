"""What workers do."""

import socket

from celery import shared_task

from core.models import Deposit, Firing


@shared_task
def record(batch: str, number: int) -> None:
    """Write a deposit down, and which container did."""
    Deposit.objects.create(batch=batch, number=number, container=socket.gethostname())


@shared_task
def fire(schedule: str) -> None:
    """Write down that a schedule fired."""
    Firing.objects.create(schedule=schedule)


@shared_task
def fail(address: str) -> None:
    """Fail for a person."""
    raise RuntimeError(f"no deposit of {address} in a worker")
