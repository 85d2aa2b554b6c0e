"""The project; Celery's app is found by `celery -A coffee_payment`."""

from coffee_payment.celery import app as celery_app

__all__ = ["celery_app"]
