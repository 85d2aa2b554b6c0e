"""Celery: broker and results are in the Redis store."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "coffee_payment.settings")
app = Celery("coffee_payment")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["payments"])
