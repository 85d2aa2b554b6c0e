"""Run the upgrade in a separate unit, and finish or undo a killed one.

The order keeps the undo short. The old cluster is only read: pg_upgrade copies it, and the copy is
compared with it while no client can write to either. Up to the moment at which the journal says
``switched``, undoing is to start the old one again.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.backup import create as backups
from bedstone.backup.create import server_of
from bedstone.core import files, lock, names
from bedstone.core.errors import BedstoneError
from bedstone.postgres import compare
from bedstone.postgres.debian_cluster import AUTOMATIC, MANUAL, NAME, Cluster
from bedstone.upgrade import downtime, journal, wal
from bedstone.upgrade.journal import ASKED, BEGUN, OPENED, SWITCHED, Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone.backup.settings import Settings

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 120.0
_SHOWN = 20
_END_SECONDS = 30.0


def carry_out(settings: Settings) -> None:
    """Carry out the journal's upgrade, or finish or undo an interrupted one.

    Raises:
        BedstoneError: it failed; says what serves.

    """
    found = journal.load()
    if found is None:
        return
    with _locked(settings):
        if found.phase != ASKED:
            _settle(settings, found)
            if found.phase == BEGUN:
                raise BedstoneError(
                    f"The upgrade to PostgreSQL {found.target} was interrupted;"
                    f" {found.source} serves as before."
                )
            return
        try:
            found = _back(found) if found.back else _forth(settings, found)
        except BaseException as error:
            _undo(settings, found)
            raise _led_back(found, error) from error
        _finish_or_back(settings, found)


def settle(settings: Settings) -> None:
    """Finish or undo an upgrade whose process was killed.

    Raises:
        BedstoneError: it could not be done; says what to do.

    """
    found = journal.load()
    if found is not None:
        with _locked(settings):
            _settle(settings, found)


def _settle(settings: Settings, found: Journal) -> None:
    # It may have changed until the locks were had.
    found = journal.load() or found
    logger.warning(
        "An upgrade from %s to %s was interrupted at %r.", found.source, found.target, found.phase
    )
    if found.phase == ASKED:
        journal.clear()
    elif found.phase == BEGUN:
        _undo(settings, found)
    elif found.phase == SWITCHED:
        _finish_or_back(settings, found)
    else:
        _open(settings, found)


def _forth(settings: Settings, found: Journal) -> Journal:
    """Upgrade until both clusters are equal and no app serves."""
    source, target = Cluster(found.source), Cluster(found.target)
    server = server_of(settings)
    downtime.require_no_job(config.declared())
    found = found.saved(
        phase=BEGUN,
        dark_since=_now(),
        healthy=tuple(downtime.healthy(config.declared())),
    )
    logger.info("Closing the apps: visitors see the maintenance page.")
    found = downtime.close(found)
    logger.info("Starting PostgreSQL %s for the superuser alone.", source.major)
    source.stop()
    source.start_closed(server, archive=True)
    counted = {}
    for entry in settings.apps:
        if entry.database is not None:
            made = backups.create(
                settings,
                entry.app,
                label=f"before PostgreSQL {target.major}",
                with_media=False,
                wait_seconds=_WAIT_SECONDS,
            ).backup
            assert made.manifest is not None
            assert made.manifest.database is not None
            counted[entry.database] = made.manifest.database.rows
            logger.info("%s: backed up as %s.", entry.app, made.name)
    with ExitStack() as stack:
        for entry in settings.apps:
            stack.enter_context(lock.held(f"{entry.app}.backup", "bedstone upgrade postgresql"))
        before = compare.contents(server, counted)
        source.stop()
        found = _copy(settings, found)
        _compare(settings, found, before)
    return found.saved(phase=SWITCHED)


def _copy(settings: Settings, found: Journal) -> Journal:
    source, target = Cluster(found.source), Cluster(found.target)
    if target.exists:
        # As a package's installation leaves it; checked before, and once more.
        if not target.is_empty():
            raise BedstoneError(f"Something was made in {target.name} meanwhile.")
        target.drop()
    found = found.saved(made=True)
    # The new one gets a copy of this: after a power cut, neither starts until it is settled.
    source.set_start(MANUAL)
    logger.info("Copying the cluster: pg_upgradecluster %s -> %s.", source.major, target.major)
    target.copy_from(source, jobs=settings.jobs)
    target.set_start(MANUAL)
    _carry_configuration(source, target)
    return found


def _carry_configuration(source: Cluster, target: Cluster) -> None:
    """Give the new cluster the old one's conf.d, which pg_upgradecluster leaves behind.

    The rest it has brought along: postgresql.conf adapted, pg_hba.conf, pg_ident.conf.
    """
    old, new = source.settings / "conf.d", target.settings / "conf.d"
    new.mkdir(mode=0o755, exist_ok=True)
    if old.is_dir():
        for path in sorted(old.glob("*.conf")):
            shutil.copy2(path, new / path.name)
            status = path.stat()
            os.chown(new / path.name, status.st_uid, status.st_gid)
    shutil.copy2(source.settings / "environment", target.settings / "environment")
    for name in ("pg_hba.conf", "pg_ident.conf"):
        # Brought along by pg_upgradecluster, but as the server's own: it could change them.
        status = (source.settings / name).stat()
        os.chown(target.settings / name, status.st_uid, status.st_gid)
        (target.settings / name).chmod(status.st_mode & 0o777)
    files.sync_directory(new)


def _compare(settings: Settings, found: Journal, before: compare.Contents) -> None:
    """Start the new cluster without access for clients, compare it, and gather its statistics."""
    target = Cluster(found.target)
    # On its later port, with its later settings: what can't start is found out now.
    aside = server_of(settings)
    target.start_closed(aside, archive=False)
    try:
        wrong = compare.differences(before, compare.contents(aside))
        if wrong:
            raise BedstoneError(
                f"The copy doesn't hold what PostgreSQL {found.source} holds.",
                details="\n".join(wrong[:_SHOWN]),
            )
        logger.info(
            "Compared: %s rows, %s databases, %s roles with passwords and privileges are as"
            " before.",
            compare.rows(before),
            len(before["databases"]),
            len(before["roles"]),
        )
        target.analyze(aside, jobs=settings.jobs)
    finally:
        target.stop()


def _finish_or_back(settings: Settings, found: Journal) -> None:
    """Start the target cluster; if the apps aren't healthy with it, the source again."""
    try:
        found = _finish(settings, found)
    except BaseException as error:
        now = journal.load()
        if found.back or now is None or now.phase == OPENED:
            # The way back has no way back, and what visitors wrote is never left behind: the next
            # start tries again.
            raise
        logger.warning(
            "It doesn't serve well: %s. Going back to PostgreSQL %s.", error, found.source
        )
        _turn_to(Cluster(found.source), Cluster(found.target))
        downtime.start(found)
        downtime.open_again(found)
        journal.record(
            "last",
            {"serves": found.source, "other": found.target, "at": _now(), "why": "back"},
        )
        journal.clear()
        raise BedstoneError(
            f"The apps weren't well with PostgreSQL {found.target}, so {found.source} serves"
            " again, with all that was in it.",
            details=error.text() if isinstance(error, BedstoneError) else repr(error),
            hint=f"{found.target}/{NAME} is kept, stopped, to look at; `bedstone upgrade postgresql"
            " --drop-old` removes it. Then rehearse again.",
        ) from error
    _open(settings, found)


def _finish(settings: Settings, found: Journal) -> Journal:
    source, target = Cluster(found.source), Cluster(found.target)
    logger.info("PostgreSQL %s takes over.", target.major)
    _turn_to(target, source)
    server = server_of(settings)
    if server.major() != target.major:
        raise BedstoneError(f"Another PostgreSQL than {target.major} answers.")
    downtime.start(found)
    downtime.require_health(found.healthy)
    journal.record(
        "last",
        {
            "serves": target.major,
            "other": source.major,
            "at": _now(),
            "why": "back" if found.back else "upgrade",
        },
    )
    return found.saved(phase=OPENED)


def _open(settings: Settings, found: Journal) -> None:
    """Remove the maintenance page, and do what isn't urgent."""
    source, target = Cluster(found.source), Cluster(found.target)
    downtime.open_again(found)
    journal.clear()
    journal.forget("rehearsal")
    since = datetime.fromisoformat(found.dark_since or _now())
    dark = (datetime.now(UTC) - since).total_seconds()
    version = server_of(settings).version()
    logger.info("PostgreSQL %s serves. The apps were closed for %.0f s.", version, dark)
    with suppress(BedstoneError):
        for problem in downtime.front_doors(found.healthy):
            logger.warning("But through the front door, %s.", problem)
    wal.follow(target.major)
    if found.back:
        logger.info(
            "What was written to PostgreSQL %s since is in that cluster alone, which is kept,"
            " stopped.",
            source.major,
        )
    logger.info(
        'The inventory has to say so: `postgresql_version: "%s"`, unless that is the own version'
        " of the server's Debian. Then run provision.yml.",
        target.major,
    )
    logger.info(
        "%s is kept, stopped. `bedstone upgrade postgresql --back` returns to it; `--drop-old`"
        " removes it.",
        source.name,
    )


def _back(found: Journal) -> Journal:
    found = found.saved(
        phase=SWITCHED,
        dark_since=_now(),
        healthy=tuple(downtime.healthy(config.declared())),
    )
    logger.info("Closing the apps: visitors see the maintenance page.")
    return downtime.close(found)


def _turn_to(serves: Cluster, rests: Cluster) -> None:
    """Make one cluster serve and stop the other; idempotent."""
    rests.stop()
    # First this: a power cut in between leaves none that starts, never two.
    rests.set_start(MANUAL)
    serves.set_start(AUTOMATIC)
    serves.stop()
    serves.start()


def _undo(settings: Settings, found: Journal) -> None:
    """Make the old cluster serve as before, from any step of the upgrade."""
    found = journal.load() or found
    if found.back:
        journal.clear() if found.phase == ASKED else None
        return
    source, target = Cluster(found.source), Cluster(found.target)
    logger.info("Undoing it: PostgreSQL %s serves again.", source.major)
    _end_programs()
    if found.made:
        target.drop()
    if found.phase != ASKED:
        # Only where it was stopped or closed.
        source.stop()
        source.set_start(AUTOMATIC)
        source.start()
        if server_of(settings).major() != source.major:
            raise BedstoneError(f"Another PostgreSQL than {source.major} answers.")
        downtime.start(found)
        downtime.open_again(found)
    journal.clear()


def _end_programs() -> None:
    """End what a killed upgrade left running in this unit: it would go on copying."""
    deadline = time.monotonic() + _END_SECONDS
    while (left := _left_in_unit()) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _left_in_unit() -> list[int]:
    own = {os.getpid(), os.getppid()}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        try:
            here = names.UPGRADE_UNIT in (entry / "cgroup").read_text()
            program = (entry / "comm").read_text().strip()
        except OSError:
            continue
        # Servers are stopped cleanly later.
        if here and program not in {"postgres", "bedstone", "systemctl"}:
            found.append(int(entry.name))
    return found


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Lock out releases, restores and other upgrades."""
    purpose = "bedstone upgrade postgresql"
    names = sorted({*config.declared(), *(entry.app for entry in settings.apps)})
    with ExitStack() as stack:
        stack.enter_context(lock.held(journal.LOCK, purpose, wait_seconds=_WAIT_SECONDS))
        for name in names:
            stack.enter_context(lock.held(name, purpose, wait_seconds=_WAIT_SECONDS))
        yield


def _led_back(found: Journal, error: BaseException) -> BaseException:
    if not isinstance(error, BedstoneError):
        return error
    return BedstoneError(
        f"{error.message} PostgreSQL {found.source} serves as before.",
        hint=error.hint,
        details=error.details,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
