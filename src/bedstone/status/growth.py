"""Record the size of the databases and the free space of the disks, once a night.

Kept in the ledger, so that "full in about twenty days" can be reported in time.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.core import paths
from bedstone.ledger import database
from bedstone.ledger.growth import record
from bedstone.postgres import queries

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings
    from bedstone.postgres.server import Server


def take(settings: Settings, server: Server) -> None:
    """Measure, and record it in the ledger.

    Raises:
        BedstoneError: PostgreSQL doesn't answer, or the ledger can't be opened.
        sqlite3.Error: the ledger can't be written.

    """
    sizes = queries.database_sizes(server) if any(app.database for app in settings.apps) else {}
    with database.opened() as connection:
        record(connection, datetime.now(UTC), sizes, free(settings))


def free(settings: Settings) -> dict[str, int]:
    """Return the free bytes of each file system that counts, by the first path that is on it."""
    places = (paths.host("/var/lib/docker"), paths.host("/var/lib/postgresql"), settings.directory)
    found: dict[int, tuple[str, int]] = {}
    for path in places:
        try:
            device, status = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue
        found.setdefault(device, (str(path), status.f_bavail * status.f_frsize))
    return dict(found.values())
