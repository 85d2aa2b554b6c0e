"""`manage.py report`: the job of this app; counts the entries."""

from typing import Any

from django.core.management.base import BaseCommand
from ledger_version import VERSION

from entries.models import Entry, Report


class Command(BaseCommand):
    """Count the entries and keep the number."""

    def handle(self, *_: Any, **__: Any) -> None:
        """Do it."""
        report = Report.objects.create(entries=Entry.objects.count(), version=VERSION)
        self.stdout.write(f"report: {report.entries} entries")
