"""The project; Celery's app is found by `celery -A octoco`."""

from octoco.celery import app as celery_app

__all__ = ["celery_app"]
