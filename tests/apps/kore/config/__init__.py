"""The project; Celery's app is found by `celery -A config`."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
