"""`manage.py queue_tasks FIRST COUNT`: put numbered tasks into the queue."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from entries.tasks import record


class Command(BaseCommand):
    """Queue tasks."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the first number and how many."""
        parser.add_argument("first", type=int)
        parser.add_argument("count", type=int)

    def handle(self, *_: Any, **options: Any) -> None:
        """Queue them."""
        for number in range(options["first"], options["first"] + options["count"]):
            record.delay(number)
        self.stdout.write(f"queued {options['count']}")
