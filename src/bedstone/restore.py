"""``bedstone restore``: put a backup back, without risking what is there.

Everything is checked before anything is touched. Then the backup is restored beside
what serves, compared with what the backup says it holds, and put in its place in one
go. The old data stays under another name until somebody drops it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone import (
    backup_settings,
    catalogue,
    database_properties,
    default_privileges,
    dump,
    lock,
    media,
    restore_check,
    restore_journal,
    restore_role,
    services,
    single_table,
    space,
    swap,
)
from bedstone.backup import DUMP, server_of
from bedstone.cli import add_command
from bedstone.errors import BedstoneError, RefusedError
from bedstone.interrupts import terminable
from bedstone.postgres import identifier
from bedstone.restore_journal import Journal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from bedstone.backup_settings import Settings
    from bedstone.cli import Subparsers
    from bedstone.postgres import Server
    from bedstone.restore_check import Plan

# PostgreSQL's names have 63 characters, of which "_before_restore_YYYYMMDD_HHMMSS" takes 31.
_LONGEST = 32


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Attributes:
        database: the name that the data now has, or None.
        old_database: the name that the former data now has, or None.
        media: the media directory that was put in place, or None.
        old_media: where the former one is now, or None.
        rows: rows in the restored database.
        restarted: units that were started anew.

    """

    database: str | None
    old_database: str | None
    media: str | None
    old_media: str | None
    rows: int
    restarted: tuple[str, ...]


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "restore",
        _command,
        summary="put a backup back in place, or beside to look at it",
        description=(
            "Checks the backup (complete, of this app, unchanged to the byte, not too new, room\n"
            "for it), asks, restores it beside what serves, compares the rows of every table with\n"
            "those counted when it was made, and swaps. What served before is kept as\n"
            "NAME_before_restore_YYYYMMDD_HHMMSS; the command to drop it is printed. Killed in\n"
            "the middle, the old data serves on; the next restore or backup cleans up.\n\n"
            "Exit code 3: refused, and nothing was touched."
        ),
        examples=(
            "bedstone restore payments latest",
            "bedstone restore payments backup_20261120_020000 --yes",
            "bedstone restore payments latest --into payments_yesterday   # beside, to look",
            "bedstone restore payments latest --table public.orders --into payments_look",
            "bedstone restore payments /mnt/usb/backup_20261120_020000",
        ),
    )
    parser.add_argument("app", metavar="APP", help="whose data")
    parser.add_argument(
        "backup",
        metavar="BACKUP",
        help="a name that `bedstone backups` lists, a path, or `latest`: the newest full one, never"
        " a restore point",
    )
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument(
        "--directory", type=Path, help="where its backups are (default: the one in the settings)"
    )
    parser.add_argument(
        "--into",
        metavar="DATABASE",
        help="restore into a new database of this name and leave what serves alone",
    )
    parser.add_argument(
        "--table",
        metavar="SCHEMA.TABLE",
        help="with --into: fill only this table; the others are made and stay empty, and foreign"
        " keys and triggers are left away",
    )
    parser.add_argument(
        "--media",
        action="store_true",
        default=None,
        help="the uploaded files too (default, if the backup has them; not with --into)",
    )
    parser.add_argument("--no-media", dest="media", action="store_false", help="the database alone")
    parser.add_argument(
        "--from-other-app",
        action="store_true",
        help="accept another app's backup; everything in it then belongs to APP",
    )
    parser.add_argument(
        "--no-restart",
        dest="restart",
        action="store_false",
        help="leave the app's services running (they may hold on to the old media directory)",
    )
    parser.add_argument(
        "--as-superuser",
        action="store_true",
        help="load it with the superuser's rights, which the app's own functions then have, too:"
        " only for what can't be loaded as its owners, and when you trust it",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def carry_out(
    settings: Settings, plan: Plan, *, restart: bool = True, as_superuser: bool = False
) -> Restored:
    """Restore what was checked and planned. The caller holds the locks.

    Args:
        settings: this server's.
        plan: what :func:`restore_check.check` returned.
        restart: start the app's services anew after a swap.
        as_superuser: load with the superuser's rights, functions of the app included.

    Raises:
        BedstoneError: it failed; unless the message says otherwise, what served before
            serves still, and nothing that was restored beside is left.

    """
    server = server_of(settings)
    journal = _free_journal(server, plan, datetime.now(UTC))
    journal.save()
    try:
        journal, rows = _beside(settings, server, plan, journal, as_superuser=as_superuser)
        old_database = None
        if journal.database is not None:
            old_database = _swap_database(server, journal)
    except BaseException:
        # After an interrupt in the very moment of the swap, the journal knows more.
        if not restore_journal.passed(server, journal):
            restore_journal.undo(server, journal)
        raise
    old_media = None
    if journal.media is not None:
        existed = Path(journal.media.path).exists()
        restore_journal.finish(journal)
        old_media = journal.media.old if existed else None
    # Before the restart: an app that doesn't start must not keep the next backup from running.
    journal.clear()
    restarted = services.restart(plan.app.app) if restart and plan.into is None else ()
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
            watch=lambda: space.still(side.parent, settings.reserve_bytes, "The restore"),
        )
        found = media.count(side)
        if found != plan.manifest.media.files:
            raise BedstoneError(
                f"{found} media files were unpacked, but the backup recorded"
                f" {plan.manifest.media.files}; nothing was put in place."
            )
        journal = journal.with_inode(side.stat().st_ino)
        journal.save()
    return journal, rows


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
        server.execute(_prepared_for_foreign(server, plan), side)
    data = Path(str(server.value("SHOW data_directory")))
    expected = plan.manifest.database.rows
    roles = {plan.owner} if plan.foreign else {plan.owner, *plan.manifest.database.roles}
    load: dict[str, Any] = {
        "jobs": settings.jobs,
        "owner": plan.owner if plan.foreign else None,
        "watch": lambda: space.still(data, settings.reserve_bytes, "The restore"),
    }
    with nullcontext() if as_superuser else restore_role.login(server, roles) as login:
        if login is not None:
            restore_role.require(server, side)
            load["login"] = login
        if plan.table is None:
            dump.load(server, plan.backup.path / DUMP, side, **load)
        else:
            filled = single_table.load(server, plan.backup.path / DUMP, side, plan.table, **load)
            expected = {table: rows if table in filled else 0 for table, rows in expected.items()}
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
    server.execute("ANALYZE;", side, timeout=None)
    return journal, sum(counted.values())


def differences(recorded: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """Return a line for every table whose rows aren't as many as recorded."""
    return [
        f"{table}: {recorded.get(table, 'no such table')} in the backup,"
        f" {counted.get(table, 'no such table')} restored"
        for table in sorted({*recorded, *counted})
        if recorded.get(table) != counted.get(table)
    ]


def _prepared_for_foreign(server: Server, plan: Plan) -> str:
    assert plan.manifest.database is not None
    assert plan.database is not None
    extensions = (
        f"CREATE EXTENSION IF NOT EXISTS {identifier(name)};"
        for name in plan.manifest.database.extensions
    )
    return "\n".join([default_privileges.statements(server, plan.database), *extensions])


def _swap_database(server: Server, journal: Journal) -> str | None:
    assert journal.database is not None
    part = journal.database
    if server.oid(part.name) is None:
        swap.new_database(server, part.name, part.side)
        return None
    swap.database(server, part.name, part.side, part.old)
    return part.old


def _command(arguments: argparse.Namespace) -> int:
    settings = backup_settings.load()
    app = settings.app(arguments.app)
    home = (arguments.directory.absolute() if arguments.directory else settings.directory) / app.app
    begun = time.monotonic()
    with terminable(), ExitStack() as locks:
        if arguments.into is None:
            # Neither a release nor another backup or restore may come between.
            locks.enter_context(lock.held(app.app, f"bedstone restore {app.app}"))
        locks.enter_context(lock.held(f"{app.app}.backup", f"bedstone restore {app.app}"))
        restore_journal.recover(server_of(settings), app.app)
        path = catalogue.resolve(home, arguments.backup)
        if arguments.backup == catalogue.LATEST:
            _tell_of_newer_point(home, path)
        plan = restore_check.check(
            settings,
            app,
            path,
            into=arguments.into,
            with_media=arguments.media,
            from_other_app=arguments.from_other_app,
            table=arguments.table,
        )
        if not arguments.yes:
            _ask(plan)
        try:
            restored = carry_out(
                settings, plan, restart=arguments.restart, as_superuser=arguments.as_superuser
            )
        except OSError as error:
            raise BedstoneError(f"The restore failed: {error}.") from error
    seconds = time.monotonic() - begun
    if arguments.json:
        print(json.dumps(_result(plan, restored, seconds), indent=2))
    else:
        print(_sentences(settings, plan, restored, seconds))
    return 0


def _tell_of_newer_point(home: Path, path: Path) -> None:
    newest = catalogue.newest_good(home)
    if newest is not None and newest.name != path.name and newest.manifest is not None:
        print(
            f"`latest` is {path.name}, the newest full backup. The restore point {newest.name}"
            f" ({newest.manifest.label or 'no label'}) is newer and holds the database alone: name"
            " it if you mean it.",
            file=sys.stderr,
        )


def _ask(plan: Plan) -> None:
    print(plan.describe(), file=sys.stderr)
    if not sys.stdin.isatty():
        raise RefusedError(
            "A restore asks before it begins, and nobody is there to answer.",
            hint="Add --yes when you are sure.",
        )
    answer = ""
    with suppress(EOFError):
        answer = input(f"Type the app's name ({plan.app.app}) to go on: ")
    if answer.strip() != plan.app.app:
        raise RefusedError("That wasn't the app's name: nothing was touched.")


def _result(plan: Plan, restored: Restored, seconds: float) -> dict[str, object]:
    return {
        "app": plan.app.app,
        "backup": str(plan.backup.path),
        "database": restored.database,
        "table": str(plan.table) if plan.table else None,
        "old_database": restored.old_database,
        "media": restored.media,
        "old_media": restored.old_media,
        "rows": restored.rows,
        "restarted": list(restored.restarted),
        "seconds": round(seconds, 1),
    }


def _sentences(settings: Settings, plan: Plan, restored: Restored, seconds: float) -> str:
    lines = [f"{plan.app.app}: restored {plan.backup.path} in {seconds:.1f} s."]
    if plan.table:
        lines += _table_sentences(settings, plan, restored)
    elif restored.database:
        lines.append(f"The database {restored.database} holds {restored.rows} rows, as then.")
    if restored.media:
        lines.append(f"The media are in {restored.media}.")
    if restored.restarted:
        lines.append(f"Started anew: {', '.join(restored.restarted)}.")
    if restored.old_database:
        connection = f"--host {settings.socket} --port {settings.port}"
        lines.append(
            f"What served before is kept as the database {restored.old_database}. When you no"
            " longer need it:\n"
            f"  runuser -u postgres -- dropdb {connection} {restored.old_database}"
        )
    if restored.old_media:
        lines.append(f"The former media are kept. To remove them:\n  rm -r {restored.old_media}")
    return "\n".join(lines)


def _table_sentences(settings: Settings, plan: Plan, restored: Restored) -> list[str]:
    connection = f"--host {settings.socket} --port {settings.port} {restored.database}"
    what = f"The database {restored.database} holds {restored.rows} rows of {plan.table}, as then"
    return [
        f"{what}; its other tables are empty. To look at it, and to drop it:",
        f"  runuser -u postgres -- psql {connection}",
        f"  runuser -u postgres -- dropdb {connection}",
    ]
