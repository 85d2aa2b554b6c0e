"""Rehearse the upgrade while all apps serve.

Two checks, each with the new version's own programs: pg_upgrade checks the running cluster
(`--check`), and the newest backup of each app is restored into a temporary cluster of the new
version, where its rows are counted and its indexes checked. The time that takes is the upper limit
of the upgrade's downtime.
"""

from __future__ import annotations

import logging
import os
import pwd
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone.backup import catalog, verify_settings
from bedstone.backup import create as backups
from bedstone.backup.create import server_of
from bedstone.core import disk, lock, scratch
from bedstone.core.errors import BedstoneError
from bedstone.postgres import compare
from bedstone.postgres.server import USER
from bedstone.upgrade import journal
from bedstone.verify import checks
from bedstone.verify.run import LOCK

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import App, Settings
    from bedstone.postgres.debian_cluster import Cluster

logger = logging.getLogger(__name__)

# Older ones say little about the data of today, or about today's packages.
FRESH = timedelta(days=1)
# Stopping, starting and asking the apps whether they are well.
_BESIDES_SECONDS = 30.0


def recent(source: Cluster, target: Cluster) -> dict[str, Any] | None:
    """Return the last rehearsal of this upgrade if it went well within a day, or None."""
    found = journal.recorded("rehearsal")
    if found is None or (found["source"], found["target"]) != (source.major, target.major):
        return None
    age = datetime.now(UTC) - datetime.fromisoformat(found["at"])
    same = found["program"] == target.program_version()
    return found if same and timedelta() <= age <= FRESH else None


def rehearse(settings: Settings, source: Cluster, target: Cluster) -> dict[str, Any]:
    """Rehearse the upgrade, record how it went, and return that.

    Args:
        settings: this server's.
        source: the cluster that serves.
        target: the version it is to come to.

    Raises:
        BedstoneError: the new version doesn't take the cluster, or a backup.

    """
    begun = time.monotonic()
    apps: dict[str, dict[str, Any]] = {}
    how = verify_settings.load()
    points = 0.0
    with lock.held(LOCK, "bedstone upgrade postgresql"):
        scratch.clear(how.directory)
        _look(settings, source, target, how.directory)
        for entry in settings.apps:
            if entry.database is None:
                continue
            backup, seconds = _backup(settings, entry)
            points += seconds
            apps[entry.app] = _restore(settings, entry, backup, target)
    restored = sum(each["seconds"] for each in apps.values())
    document = {
        "source": source.major,
        "target": target.major,
        "program": target.program_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begun, 1),
        "apps": apps,
        "dark_seconds": round(points + restored + _BESIDES_SECONDS),
    }
    journal.record("rehearsal", document)
    return document


def _backup(settings: Settings, entry: App) -> tuple[Backup, float]:
    """Return an app's newest full backup, made now if it is older than a day, and its time."""
    found = catalog.newest(settings.directory / entry.app)
    if found is None or found.age is None or not timedelta() <= found.age <= FRESH:
        logger.info("%s: a full backup first, since the newest is older than a day.", entry.app)
        found = backups.create(settings, entry.app, label="before an upgrade").backup
    taken = found.manifest
    assert taken is not None
    return found, max((taken.finished - taken.started).total_seconds(), 0.0)


def _restore(settings: Settings, entry: App, backup: Backup, target: Cluster) -> dict[str, Any]:
    found = backup.manifest
    how = verify_settings.load()
    assert found is not None
    if wrong := checks.damages(backup, found):
        sentences = [sentence for each in wrong.values() for sentence in each]
        raise BedstoneError(
            f"{backup.path} is damaged: {sentences[0]}.",
            hint=f"Make a new one (`bedstone backup {entry.app}`), then rehearse again.",
        )
    assert found.database is not None
    disk.require(how.directory, checks.needed_bytes(found), settings.reserve_bytes, "The rehearsal")
    begun = time.monotonic()
    with scratch.place(how.directory, app=entry.app, backup=backup.name) as place:
        proof = checks.prove_dump(
            backup,
            found.database,
            entry,
            place,
            checks=how.checks.get(entry.app, ()),
            jobs=settings.jobs,
            watch=lambda: disk.still(how.directory, settings.reserve_bytes, "The rehearsal"),
            major=target.major,
        )
    seconds = round(time.monotonic() - begun, 1)
    logger.info(
        "%s: %s restored with PostgreSQL %s in %s s: %s.",
        entry.app,
        backup.name,
        target.major,
        seconds,
        proof.said,
    )
    return {"backup": backup.name, "seconds": seconds, "rows": proof.rows}


def _look(settings: Settings, source: Cluster, target: Cluster, home: Path) -> None:
    """Run pg_upgrade's check on the running cluster; it changes nothing there."""
    server = server_of(settings)
    account = pwd.getpwnam(USER)
    with scratch.place(home, app=None, backup=None, part="check") as place:
        here = place / "check"
        here.mkdir(mode=0o700)
        os.chown(here, account.pw_uid, account.pw_gid)
        target.check_upgrade(source, server, here)
    rows = compare.databases(server)
    logger.info(
        "pg_upgrade of PostgreSQL %s finds nothing in the way (%s databases).",
        target.major,
        len(rows),
    )
