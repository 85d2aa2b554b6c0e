"""Print what PostgreSQL says of a session of ours."""

import json
from typing import Any

from django.core.management.base import BaseCommand

from payments import session


class Command(BaseCommand):
    """Print it as JSON."""

    help = __doc__

    def handle(self, **_options: Any) -> None:
        """Open a session and ask."""
        self.stdout.write(json.dumps(session.facts()))
