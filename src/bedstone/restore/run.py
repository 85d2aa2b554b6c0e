"""Restore a backup without risk to the present data.

All checks run before the first change. Then the backup is restored next to the serving data,
compared with what its manifest records, and put in its place by a swap. The old data stays under
another name until an operator drops it.

"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.appdata import journal as restore_journal
from bedstone.appdata.journal import Journal
from bedstone.backup import manifest, media
from bedstone.backup.create import server_of
from bedstone.backup.manifest import differences
from bedstone.core import disk, lock, safe_tree
from bedstone.core.errors import BedstoneError
from bedstone.postgres import dump, privileges, queries, rename, restore_role
from bedstone.postgres import properties as database_properties

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings
    from bedstone.postgres.server import Server
    from bedstone.restore.check import Plan

# PostgreSQL's names have 63 characters, of which "_before_restore_YYYYMMDD_HHMMSS" takes 31.
_LONGEST = 32
# Another app's restore goes first.
_WAIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Restored:
    """The result of a restore.

    Attributes:
        database: the name that the data now has, or None.
        old_database: the name that the former data now has, or None.
        media: the media directory that was put in place, or None.
        old_media: where the former one is now, or None.
        rows: rows in the restored database.
        restarted: units that were restarted.

    """

    database: str | None
    old_database: str | None
    media: str | None
    old_media: str | None
    rows: int
    restarted: tuple[str, ...]


def carry_out(
    settings: Settings,
    plan: Plan,
    *,
    restart: bool = True,
    as_superuser: bool = False,
    keep_serving: bool = False,
) -> Restored:
    """Carry out a restore that was checked and planned. The caller holds the locks.

    Args:
        settings: this server's.
        plan: what :func:`restore_check.check` returned.
        restart: restart the app's services after a swap.
        as_superuser: load with the superuser's rights, functions of the app included.
        keep_serving: show visitors the page of maintenance for the swap alone, not from the
            beginning.

    Raises:
        BedstoneError: it failed; unless the message says otherwise, what served before serves
            still, and no data restored next to it is left.

    """
    server = server_of(settings)
    journal = _free_journal(server, plan, datetime.now(UTC))
    if plan.into is None:
        journal = replace(journal, page=restore_journal.wanted(plan.app.app))
    journal.save()
    try:
        if not keep_serving:
            restore_journal.show(journal)
        journal, rows = _beside(settings, server, plan, journal, as_superuser=as_superuser)
        if keep_serving:
            restore_journal.show(journal)
        old_database = None
        if journal.database is not None:
            old_database = _swap_database(server, journal)
    except BaseException:
        # After an interrupt during the swap, the journal has more.
        if not restore_journal.passed(server, journal):
            restore_journal.undo(server, journal)
        raise
    old_media = None
    if journal.media is not None:
        existed = Path(journal.media.path).exists()
        restore_journal.finish(journal)
        old_media = journal.media.old if existed else None
    journal.in_place().save()
    restarted = restore_journal.end(journal, restart=restart and plan.into is None)
    return Restored(
        database=plan.into or (journal.database.name if journal.database else None),
        old_database=old_database,
        media=journal.media.path if journal.media else None,
        old_media=old_media,
        rows=rows,
        restarted=restarted,
    )


def _free_journal(server: Server, plan: Plan, moment: datetime) -> Journal:
    """Return a journal whose names aren't taken: another restore may have ended in this second."""
    while True:
        journal = _journal(plan, f"{moment:%Y%m%d_%H%M%S}")
        names = (journal.database.side, journal.database.old) if journal.database else ()
        paths = (journal.media.side, journal.media.old) if journal.media else ()
        if not any(server.oid(name) for name in names) and not any(map(os.path.lexists, paths)):
            return journal
        moment += timedelta(seconds=1)


def _journal(plan: Plan, moment: str) -> Journal:
    database = media_part = None
    if plan.database is not None:
        database = restore_journal.Database(
            name=plan.into or plan.database,
            side=f"{plan.database[:_LONGEST]}_restore_{moment}",
            old=f"{plan.database[:_LONGEST]}_before_restore_{moment}",
        )
    if plan.media is not None:
        media_part = restore_journal.Media(
            path=str(plan.media),
            side=str(plan.media.with_name(f".{plan.media.name}_restore_{moment}")),
            old=str(plan.media.with_name(f"{plan.media.name}_before_restore_{moment}")),
        )
    return Journal(plan.app.app, str(plan.backup.path), database, media_part)


def _beside(
    settings: Settings, server: Server, plan: Plan, journal: Journal, *, as_superuser: bool
) -> tuple[Journal, int]:
    rows = 0
    if journal.database is not None:
        journal, rows = _database_beside(settings, server, plan, journal, as_superuser=as_superuser)
    if journal.media is not None and plan.manifest.media is not None:
        side = Path(journal.media.side)
        media.unpack(
            plan.manifest.media,
            plan.backup.path,
            side,
            watch=lambda: disk.still(side.parent, settings.reserve_bytes, "The restore"),
        )
        found = media.count(side)
        if found != plan.manifest.media.files:
            raise BedstoneError(
                f"{found} media files were unpacked, but the backup recorded"
                f" {plan.manifest.media.files}; nothing was put in place."
            )
        _give_to_owner(side, Path(journal.media.path))
        journal = journal.with_inode(side.stat().st_ino)
        journal.save()
    return journal, rows


def _give_to_owner(side: Path, present: Path) -> None:
    """Give restored uploads to their present owner: the app may have had another user then."""
    if present.is_dir() and not present.is_symlink():
        owner = present.lstat()
        safe_tree.give(side, owner.st_uid, owner.st_gid)


def _database_beside(
    settings: Settings, server: Server, plan: Plan, journal: Journal, *, as_superuser: bool
) -> tuple[Journal, int]:
    assert journal.database is not None
    assert plan.manifest.database is not None
    assert plan.owner is not None
    side = journal.database.side
    properties = database_properties.read(server, plan.database or "") or (
        plan.manifest.database.properties
    )
    server.execute(database_properties.create_statement(side, plan.owner, properties), timeout=300)
    journal = journal.with_oid(server.oid(side))
    journal.save()
    server.execute(database_properties.like(side, plan.owner, properties))
    if plan.foreign and plan.database is not None:
        recorded = plan.manifest.database
        server.execute(
            privileges.for_foreign_dump(
                server, plan.database, plan.owner, recorded.properties, recorded.extensions
            ),
            side,
        )
    data = queries.data_directory(server)
    expected = plan.manifest.database.rows
    found = plan.manifest.database
    roles = [] if plan.foreign else found.roles
    extensions = found.properties.get("extension_owners")
    load: dict[str, Any] = {
        "jobs": settings.jobs,
        "owner": plan.owner if plan.foreign else None,
        "watch": lambda: disk.still(data, settings.reserve_bytes, "The restore"),
    }
    with ExitStack() as stack:
        login = None
        if not as_superuser:
            purpose = f"bedstone restore {plan.app.app}"
            # The role is a member of one app's roles at a time.
            stack.enter_context(lock.held("restore-role", purpose, wait_seconds=_WAIT_SECONDS))
            login = stack.enter_context(restore_role.login(server, plan.owner, roles, extensions))
            restore_role.require(server, side)
            load["login"] = login
        dump.load(server, plan.backup.path / manifest.DATABASE, side, **load)
        if login is not None:
            restore_role.leave(server, side, plan.owner)
    counted = dump.count(server, side)
    if different := list(differences(expected, counted)):
        raise BedstoneError(
            "The restored tables don't hold what was counted when the backup was made; nothing"
            " was put in place.",
            details="\n".join(different[:20]),
        )
    # Without statistics the first hours would be slow.
    queries.analyze(server, side)
    return journal, sum(counted.values())


def _swap_database(server: Server, journal: Journal) -> str | None:
    assert journal.database is not None
    part = journal.database
    if server.oid(part.name) is None:
        rename.rename(server, part.name, part.side)
        return None
    rename.swap(server, part.name, part.side, part.old)
    return part.old
