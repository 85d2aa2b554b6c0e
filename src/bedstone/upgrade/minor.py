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
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run
from bedstone.postgres import queries
from bedstone.postgres.debian_cluster import Cluster
from bedstone.upgrade import downtime, journal

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings
    from bedstone.upgrade.pending import Waiting

logger = logging.getLogger(__name__)

_INSTALL_SECONDS = 1800.0
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
        packages = _related(cluster.major)
        _apt("install", "--only-upgrade", "--download-only", *packages)
        started = _started(settings)
        with _Watch(settings) as watch:
            _apt("install", "--only-upgrade", *packages)
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
        self._ask = ["pg_isready", "-q", "-h", settings.socket, "-p", str(settings.port)]
        self._over = threading.Event()

    def run(self) -> None:
        """Ask repeatedly."""
        last = time.monotonic()
        while not self._over.wait(_ASK_EVERY_SECONDS):
            answers = run(self._ask, check=False).returncode == 0
            now = time.monotonic()
            self.away += 0 if answers else now - last
            last = now

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()


def _apt(*arguments: str) -> None:
    try:
        run(
            ["apt-get", "--yes", "--quiet", "-o", "Dpkg::Options::=--force-confdef",
             "-o", "Dpkg::Options::=--force-confold", *arguments],
            timeout=_INSTALL_SECONDS,
            env={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except CommandError as error:
        raise BedstoneError(
            "apt could not install the new minor version.",
            details=error.details,
            hint="See `systemctl status 'postgresql*'`; `dpkg --configure -a` ends what was begun.",
        ) from error


def _related(major: int) -> list[str]:
    """Return the version's installed packages: its extensions come along."""
    said = run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}\t${Package}\n",
         f"postgresql-{major}", f"postgresql-{major}-*", f"postgresql-client-{major}"],
        check=False,
    ).stdout  # fmt: skip
    return [line.partition("\t")[2] for line in said.splitlines() if line.startswith("ii")]


def _started(settings: Settings) -> str:
    return queries.start_time(server_of(settings))
