"""Celery: the broker is the Redis store."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octoco.settings.production")
app = Celery("octoco")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["core"])
