"""Restore a backup, or an app's data of a moment: `bedstone restore`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.appdata import journal
from bedstone.backup import catalog
from bedstone.backup import settings as backup_settings
from bedstone.backup.create import server_of
from bedstone.cli import restore_list
from bedstone.cli.main import add_command
from bedstone.core import lock
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.core.signals import terminable
from bedstone.restore import check, source
from bedstone.restore.run import carry_out
from bedstone.restore.source import Wanted

if TYPE_CHECKING:
    from datetime import datetime

    from bedstone.backup.settings import Settings
    from bedstone.cli.main import Subparsers
    from bedstone.restore.check import Plan
    from bedstone.restore.run import Restored
    from bedstone.restore.source import Found


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
            "the middle, the old data serves on; `bedstone settle` (which also runs at boot) and\n"
            "the next restore or backup clean up.\n\n"
            "Visitors see the page of maintenance from the moment the copy begins until the app\n"
            "serves with it: what they wrote meanwhile would only be in the replaced data.\n\n"
            "--time brings PostgreSQL's whole cluster back beside, out of the WAL, as it was at\n"
            "that moment; the app's database of then becomes a backup, and that is restored like\n"
            "any other. Uploads aren't in the WAL: they stay as they are, unless the app declares\n"
            "`copy_every_minutes` in its `media` and a copy was made since that moment: the first\n"
            "such copy is taken. A moment that can't be reached is refused, and those that can\n"
            "are named.\n\n"
            "Exit code 3: refused, and nothing was touched."
        ),
        examples=(
            "bedstone restore payments latest",
            "bedstone restore payments backup_20261120_020000 --yes",
            "bedstone restore payments latest --into payments_yesterday   # beside, to look",
            "bedstone restore payments /mnt/usb/backup_20261120_020000",
            "bedstone restore payments backup_20261120_020000 --destination offsite",
            "bedstone restore payments --time '2026-11-20 10:00:00+00:00' --into payments_look",
            "bedstone restore payments latest --destination vault --as-of '2026-11-20 03:00:00Z'",
            "bedstone restore payments --release 20261120_101500-v1.4.2",
            "bedstone restore payments --list",
        ),
    )
    parser.add_argument("app", metavar="APP", help="whose data")
    parser.set_defaults(late="backup")
    parser.add_argument(
        "backup",
        metavar="BACKUP",
        nargs="?",
        help="a name that `bedstone backups` lists, a path, or `latest`: the newest full one, never"
        " a restore point",
    )
    parser.add_argument(
        "--time",
        type=_moment,
        metavar="TIME",
        help="the database as it was at this moment, like '2026-11-20 10:00:00+00:00': with its"
        " distance to UTC, or `UTC`",
    )
    parser.add_argument(
        "--release",
        metavar="ID",
        help="the restore point that was made before this release changed the schema",
    )
    parser.add_argument(
        "--destination",
        metavar="NAME",
        help="fetch it from there (`bedstone destinations`); default: this server, and for --time"
        " the first destination that has WAL",
    )
    parser.add_argument(
        "--as-of",
        type=_moment,
        metavar="TIME",
        help="read the destination, a versioned S3 bucket, as it was at this moment: before"
        " something deleted or changed what is there",
    )
    parser.add_argument(
        "--list", action="store_true", help="say what could be restored, and do nothing"
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
        "--keep-serving",
        action="store_true",
        help="let the app serve while the copy is made; what is written meanwhile is only in the"
        " data that is replaced",
    )
    parser.add_argument(
        "--as-superuser",
        action="store_true",
        help="load it with the superuser's rights, which the app's own functions then have, too:"
        " only for what can't be loaded as its owners, and when you trust it",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _command(arguments: argparse.Namespace) -> int:
    settings = backup_settings.load()
    app = settings.app(arguments.app)
    if arguments.list:
        return restore_list.print_list(settings, app, as_json=arguments.json)
    wanted = Wanted(
        arguments.backup,
        arguments.time,
        arguments.release,
        arguments.destination,
        arguments.as_of,
        uploads=arguments.media is not False and arguments.into is None,
    ).checked(app.app)
    if wanted.takes_long and not arguments.yes and not sys.stdin.isatty():
        raise _nobody_there()
    home = (arguments.directory.absolute() if arguments.directory else settings.directory) / app.app
    begun = time.monotonic()
    with terminable(), ExitStack() as locks:
        if arguments.into is None:
            # Neither a release nor another backup or restore may come between.
            locks.enter_context(lock.held(app.app, f"bedstone restore {app.app}"))
        locks.enter_context(lock.held(f"{app.app}.backup", f"bedstone restore {app.app}"))
        journal.recover(server_of(settings), app.app)
        found = locks.enter_context(source.found(settings, app, home, wanted))
        if wanted.backup == catalog.LATEST and wanted.destination is None:
            _tell_of_newer_point(home, found.path)
        plan = check.check(
            settings,
            app,
            found.path,
            into=arguments.into,
            with_media=arguments.media,
            uploads=found.uploads,
            from_other_app=arguments.from_other_app,
            as_superuser=arguments.as_superuser,
        )
        if not arguments.yes:
            _ask(plan, found)
        try:
            restored = carry_out(
                settings,
                plan,
                restart=arguments.restart,
                as_superuser=arguments.as_superuser,
                keep_serving=arguments.keep_serving,
            )
        except OSError as error:
            raise BedstoneError(f"The restore failed: {error}.") from error
    seconds = time.monotonic() - begun
    if arguments.json:
        print(json.dumps(_result(plan, found, restored, seconds), indent=2))
    else:
        print(_sentences(settings, plan, found, restored, seconds))
    return 0


def _tell_of_newer_point(home: Path, path: Path) -> None:
    newest = catalog.newest(home, points=True)
    if newest is not None and newest.name != path.name and newest.manifest is not None:
        print(
            f"`latest` is {path.name}, the newest full backup. The restore point {newest.name}"
            f" ({newest.manifest.label or 'no label'}) is newer and holds the database alone: name"
            " it if you mean it.",
            file=sys.stderr,
        )


def _moment(text: str) -> datetime:
    try:
        return source.moment(text)
    except RefusedError as error:
        raise argparse.ArgumentTypeError(f"{error.message} {error.hint}") from error


def _nobody_there() -> RefusedError:
    return RefusedError(
        "A restore asks before it begins, and nobody is there to answer.",
        hint="Add --yes when you are sure.",
    )


def _ask(plan: Plan, found: Found) -> None:
    print("\n".join([plan.describe(), *found.said]), file=sys.stderr)
    if not sys.stdin.isatty():
        raise _nobody_there()
    answer = ""
    with suppress(EOFError):
        answer = input(f"Type the app's name ({plan.app.app}) to go on: ")
    if answer.strip() != plan.app.app:
        raise RefusedError("That wasn't the app's name: nothing was touched.")


def _result(plan: Plan, found: Found, restored: Restored, seconds: float) -> dict[str, object]:
    return {
        "app": plan.app.app,
        "backup": str(plan.backup.path),
        "database": restored.database,
        "old_database": restored.old_database,
        "media": restored.media,
        "old_media": restored.old_media,
        "rows": restored.rows,
        "restarted": list(restored.restarted),
        "destination": found.destination,
        "ended_at": found.ended_at.isoformat() if found.ended_at else None,
        "lsn": found.lsn,
        "seconds": round(seconds, 1),
    }


def _sentences(
    settings: Settings, plan: Plan, found: Found, restored: Restored, seconds: float
) -> str:
    lines = [
        f"{plan.app.app}: restored {plan.backup.path} in {seconds:.1f} s.",
        *found.said,
    ]
    connection = f"--host {settings.socket} --port {settings.port}"
    if restored.database:
        lines.append(f"The database {restored.database} holds {restored.rows} rows, as then.")
    if plan.into:
        lines += [
            "To look at it, and to drop it:",
            f"  runuser -u postgres -- psql {connection} {restored.database}",
            f"  runuser -u postgres -- dropdb {connection} {restored.database}",
        ]
    if restored.media:
        lines.append(f"The media are in {restored.media}.")
    if restored.restarted:
        lines.append(f"Started anew: {', '.join(restored.restarted)}.")
    if restored.old_database:
        lines.append(
            f"What served before is kept as the database {restored.old_database}. When you no"
            " longer need it:\n"
            f"  runuser -u postgres -- dropdb {connection} {restored.old_database}"
        )
    if restored.old_media:
        lines.append(f"The former media are kept. To remove them:\n  rm -r {restored.old_media}")
    return "\n".join(lines)
