"""Install minor versions from apt at a chosen moment.

unattended-upgrades leaves the server's package alone, since installing it restarts the database. So
a pending version is shown, and one that waits too long is a problem.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from bedstone.apps import config
from bedstone.backup import create as backups
from bedstone.backup.create import server_of
from bedstone.core import lock
from bedstone.postgres import queries
from bedstone.postgres.debian_cluster import Cluster
from bedstone.system import apt
from bedstone.upgrade import downtime, journal

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings
    from bedstone.upgrade.pending import Waiting

logger = logging.getLogger(__name__)

_ASK_EVERY_SECONDS = 0.1


def install(settings: Settings, found: Waiting) -> float:
    """Install a minor version, and return for how many seconds the database was away.

    A backup that counts is made first. Package and restart are Debian's; the apps run on and
    connect again, as they do after any restart of the database.

    Args:
        settings: this server's.
        found: what waits.

    Raises:
        BedstoneError: it failed; says what serves.

    """
    server = server_of(settings)
    cluster = Cluster(server.major())
    apps = downtime.healthy(config.declared())
    for entry in settings.apps:
        made = backups.create(settings, entry.app, label=f"before {found.candidate}").backup
        logger.info("%s: backed up as %s.", entry.app, made.name)
    with lock.held(journal.LOCK, "bedstone upgrade postgresql"):
        # Its extensions come along.
        packages = sorted(apt.installed(*_packages(cluster.major), held=False))
        apt.upgrade(*packages, download_only=True)
        started = _started(settings)
        with _Watch(settings) as watch:
            apt.upgrade(*packages)
            if _started(settings) == started:
                # The package didn't restart it: the old program would go on in memory.
                cluster.stop()
                cluster.start()
    downtime.require_health(apps)
    journal.forget("waiting")
    return watch.away


class _Watch(threading.Thread):
    """Measures for how long PostgreSQL doesn't answer."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.away = 0.0
        self._server = server_of(settings)
        self._over = threading.Event()

    def run(self) -> None:
        """Ask repeatedly."""
        last = time.monotonic()
        while not self._over.wait(_ASK_EVERY_SECONDS):
            answers = self._server.is_ready()
            now = time.monotonic()
            self.away += 0 if answers else now - last
            last = now

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()


def _packages(major: int) -> tuple[str, ...]:
    return f"postgresql-{major}", f"postgresql-{major}-*", f"postgresql-client-{major}"


def _started(settings: Settings) -> str:
    return queries.start_time(server_of(settings))
