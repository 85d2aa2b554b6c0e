"""Celery with its defaults: a task is acknowledged before it runs, SIGTERM ends a worker warm."""

import os
import sys
import time

from celery import Celery
from celery.signals import before_task_publish, worker_shutdown

from ledger import behaviour

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ledger.settings")
app = Celery("ledger")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

if behaviour.has("worker_dies") and {"worker", "beat"} & set(sys.argv):
    sys.exit("ledger: the worker dies, as it was told")


@before_task_publish.connect
def note_when(headers: dict[str, object], **_: object) -> None:
    """Say in each message when it was sent."""
    headers["sent_at"] = time.time()


@worker_shutdown.connect
def say_goodbye(**_: object) -> None:
    """Write a line that shows a test that the worker ended by itself."""
    print("ledger worker ended warm", flush=True)
