"""What workers do."""

from typing import Any

from celery import shared_task

from payments import session
from payments.models import Order


@shared_task
def pay(order: int) -> bool:
    """Mark an order as paid."""
    return Order.objects.filter(pk=order, paid=False).update(paid=True) == 1


@shared_task
def session_facts() -> dict[str, Any]:
    """Return what PostgreSQL says of the worker's session."""
    return session.facts()
