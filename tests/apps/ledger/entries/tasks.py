"""Tasks that leave a row for each execution."""

import os
import time

from celery import Task, shared_task
from django.utils import timezone
from ledger_version import VERSION

from entries.models import Execution, Tick

LONGEST_SECONDS = 3.0


@shared_task
def record(number: int) -> None:
    """Leave a row when it begins and complete it when it ends, up to three seconds later."""
    container = os.uname().nodename
    row = Execution.objects.create(number=number, version=VERSION, container=container)
    time.sleep(number % 7 / 6 * LONGEST_SECONDS)
    Execution.objects.filter(pk=row.pk).update(finished_at=timezone.now())


@shared_task(bind=True)
def tick(self: Task) -> None:
    """Leave a row that says which beat sent this, and when."""
    request = self.request
    sent_at = request.headers["sent_at"] if request.headers else request.sent_at
    Tick.objects.create(origin=request.origin.partition("@")[2], sent_at=sent_at)
