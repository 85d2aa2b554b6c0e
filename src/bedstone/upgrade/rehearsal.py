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
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run, tail
from bedstone.postgres import queries
from bedstone.postgres.debian_cluster import free_port
from bedstone.postgres.server import OPTIONS, USER
from bedstone.upgrade import compare, journal
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
_ENVIRONMENT = {"PGDATA": "", "HOME": "/nonexistent", "PGOPTIONS": OPTIONS}
_CHECK_SECONDS = 600.0
# Stopping, starting and asking the apps whether they are well.
_BESIDES_SECONDS = 30.0


def recent(source: Cluster, target: Cluster) -> dict[str, Any] | None:
    """Return the last rehearsal of this upgrade if it went well within a day, or None."""
    found = journal.recorded("rehearsal")
    if found is None or (found["source"], found["target"]) != (source.major, target.major):
        return None
    age = datetime.now(UTC) - datetime.fromisoformat(found["at"])
    return found if timedelta() <= age <= FRESH and found["program"] == _version(target) else None


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
        "program": _version(target),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begun, 1),
        "apps": apps,
        "dark_seconds": round(points + restored + _BESIDES_SECONDS),
    }
    journal.record("rehearsal", document)
    return document


def _backup(settings: Settings, entry: App) -> tuple[Backup, float]:
    """Return an app's newest full backup, made now if it is older than a day, and its time."""
    found = catalog.newest_full(settings.directory / entry.app)
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
    encoding, collate, kind = queries.template_locale(server)
    with scratch.place(home, app=None, backup=None, part="check") as place:
        here = place / "check"
        here.mkdir(mode=0o700)
        os.chown(here, account.pw_uid, account.pw_gid)
        try:
            run(
                server.command(
                    str(target.programs / "initdb"), f"--pgdata={here / 'data'}",
                    f"--encoding={encoding}", f"--lc-collate={collate}", f"--lc-ctype={kind}",
                    "--data-checksums", "--no-sync", "--no-instructions", "--auth=peer",
                ),
                cwd=str(here), timeout=_CHECK_SECONDS, env=_ENVIRONMENT,
            )  # fmt: skip
            run(
                server.command(
                    str(target.programs / "pg_upgrade"), "--check",
                    f"--old-bindir={source.programs}", f"--new-bindir={target.programs}",
                    f"--old-datadir={source.settings}", f"--new-datadir={here / 'data'}",
                    f"--old-port={settings.port}", f"--new-port={free_port(settings.port)}",
                ),
                cwd=str(here), timeout=_CHECK_SECONDS, env=_ENVIRONMENT,
            )  # fmt: skip
        except CommandError as error:
            raise BedstoneError(
                f"PostgreSQL {target.major} doesn't take the cluster as it is.",
                details=tail(f"{error.details}\n{_reports(here)}"),
                hint="Nothing was touched. What pg_upgrade says has to be put right first.",
            ) from error
    rows = compare.databases(server)
    logger.info(
        "pg_upgrade of PostgreSQL %s finds nothing in the way (%s databases).",
        target.major,
        len(rows),
    )


def _reports(directory: Path) -> str:
    found = sorted(directory.glob("data/pg_upgrade_output.d/**/*.txt"))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in found)


def _version(cluster: Cluster) -> str:
    # It says: postgres (PostgreSQL) 17.6 (Debian 17.6-0+deb13u1).
    return run([str(cluster.programs / "postgres"), "--version"]).stdout.split()[2]
