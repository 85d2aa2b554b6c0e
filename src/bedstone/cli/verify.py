"""Verify backups, and list the verifications: `bedstone verify`."""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.backup import settings as backup_settings
from bedstone.backup import verify_settings
from bedstone.cli.main import add_command
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.core.signals import terminable
from bedstone.ledger import database, verifications
from bedstone.ledger.kinds import DUMP, MEDIA, SERVER, WAL
from bedstone.ledger.verifications import LOCAL
from bedstone.offsite import verification_reports
from bedstone.storage import destinations
from bedstone.system import priority
from bedstone.verify.run import KINDS, alone, clear, verify, verify_wal
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from bedstone.backup.settings import Settings
    from bedstone.backup.verify_settings import VerifySettings
    from bedstone.cli.main import Subparsers
    from bedstone.storage.destinations import Destination
    from bedstone.verify.result import Result

    Task = tuple[str, Destination]

logger = logging.getLogger(__name__)

_NICE = 19


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "verify",
        _command,
        summary="prove backups by restoring them where they harm nobody",
        description=(
            "Fetches the newest full backup of each app from each destination (this server, too),\n"
            "checks every byte of it, restores its dump into a throwaway PostgreSQL cluster (own\n"
            "directory, own socket, no network) and compares the rows of every table, asks the\n"
            "app's `backup_checks`, looks for broken tables and indexes (amcheck), unpacks the\n"
            "media and counts. Of the WAL at each destination it brings the whole cluster back,\n"
            "up to the last archived transaction, and looks at every app's database. Then all of\n"
            "it is removed. Production is not touched. Runs at the lowest priority; what was\n"
            "verified the longest ago comes first.\n\n"
            "The ledger keeps how it went; `bedstone backups` and `bedstone status` show it.\n\n"
            "With --of, the backups of another server, from its destinations alone: on a server\n"
            "in the inventory's group `verify`, which does it each week. What comes out is left\n"
            "at the destinations, where that server reads it within the hour.\n\n"
            "Exit code 1: a backup isn't what it should be; 3: it could not be found out (no\n"
            "room, no time, no backup, or another verification is running)."
        ),
        examples=(
            "bedstone verify",
            "bedstone verify payments",
            "bedstone verify payments --backup backup_20261120_020000",
            "bedstone verify --destination offsite --kind wal",
            "bedstone verify --of db1",
            "bedstone verify --json | jq '.verifications[] | select(.state != \"succeeded\")'",
        ),
    )
    parser.add_argument(
        "app", metavar="APP", nargs="*", help="the apps (default: all of this server)"
    )
    parser.add_argument(
        "--backup",
        metavar="NAME",
        default="latest",
        help="a name that `bedstone backups` lists, or a path (default: latest); of this server,"
        " unless a destination is named",
    )
    parser.add_argument(
        "--destination",
        metavar="NAME",
        action="append",
        help="only what is there (default: each destination); may be given several times",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        action="append",
        help="only dumps, only media, or only the WAL (default: all; the WAL only without APP)",
    )
    parser.add_argument(
        "--of", metavar="SERVER", help="the backups of this server, which are none of this one"
    )
    parser.add_argument(
        "--clean-up",
        action="store_true",
        help="only remove what a killed verification left, if there is something",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _longest_ago_first(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks in such an order that each has its turn, even if time is short."""
    last: dict[Task, str] = {}
    with suppress(BedstoneError, sqlite3.Error), database.opened() as connection:
        for app, place in tasks:
            last[app, place] = next(
                (
                    attempt.finished_at
                    for attempt in verifications.of_app(connection, app)
                    if attempt.destination == place.name
                ),
                "",
            )
    return sorted(dict.fromkeys(tasks), key=lambda task: last.get(task, ""))


def _tasks(
    arguments: argparse.Namespace, names: Sequence[str], kinds: Collection[str]
) -> list[Task]:
    """Return the apps and destinations whose backups are to be verified; "" stands for the WAL."""
    known = destinations.load()
    if arguments.destination:
        places = [known.get(name) for name in arguments.destination]
    elif arguments.of:
        places = list(known.remote)
    else:
        places = list(known.all if arguments.backup == "latest" else known.all[:1])
    if arguments.of and any(place.is_local for place in places):
        raise RefusedError(
            f"What {arguments.of} keeps itself can be verified there alone.",
            hint="Name one of its destinations: "
            + ", ".join(place.name for place in known.remote)
            + ".",
        )
    wal = WAL in kinds and not arguments.app and known.point_in_time is not None
    tasks = [(name, place) for place in places for name in names if {DUMP, MEDIA} & set(kinds)]
    return tasks + [(SERVER, place) for place in places if wal and place.pgbackrest is not None]


def _command(arguments: argparse.Namespace) -> int:
    if arguments.of is not None:
        _require_origin(arguments.of)
    with paths.of_origin(arguments.of):
        return _verify(arguments)


def _require_origin(name: str) -> None:
    home = paths.origins()
    known = sorted(entry.name for entry in home.iterdir()) if home.is_dir() else []
    if name in known:
        return
    raise RefusedError(
        f"The backups of {name} aren't proved on this server.",
        hint=f"Those of: {', '.join(known)}."
        if known
        else "It has to be in the inventory's group `verify`; `provision.yml` then brings it what"
        " it needs.",
    )


def _verify(arguments: argparse.Namespace) -> int:
    settings = backup_settings.load()
    how = verify_settings.load()
    names = arguments.app or [entry.app for entry in settings.apps]
    for name in names:
        settings.app(name)
    if arguments.backup != "latest" and len(names) != 1:
        raise RefusedError(
            "--backup names one backup of one app.",
            hint="Say which: `bedstone verify payments --backup backup_20261120_020000`.",
        )
    kinds = tuple(arguments.kind or KINDS)
    tasks = _tasks(arguments, names, kinds)
    priority.step_back_fully(_NICE)
    with terminable(), _alone(arguments, how):
        clear(how)
        if arguments.clean_up:
            return 0
        results = _results(arguments, settings, how, tasks, kinds)
        untold = _leave_marks(how) if results and arguments.of else []
    if arguments.json:
        shown = [result.as_json() for result in results]
        whole = all(result.problem is None for result in results)
        print(json.dumps({"ok": whole, "verifications": shown}, indent=2))
    elif not tasks:
        print("There is nothing to verify: no app on this server has data.")
    for error in untold:
        logger.error("%s isn't told: %s", arguments.of, error.text())
    states = {result.entry.state for result in results} | ({"prevented"} if untold else set())
    return 1 if "failed" in states else 3 if "prevented" in states else 0


def _alone(arguments: argparse.Namespace, how: VerifySettings) -> AbstractContextManager[None]:
    purpose = " ".join(
        ["bedstone verify", *([f"--of {arguments.of}"] if arguments.of else []), *arguments.app]
    )
    # Several servers may have theirs verified here at the same time of the week.
    patience = how.limit_seconds if arguments.of and not arguments.clean_up else 0
    return alone(purpose, wait_seconds=patience)


def _results(
    arguments: argparse.Namespace,
    settings: Settings,
    how: VerifySettings,
    tasks: Sequence[Task],
    kinds: Collection[str],
) -> list[Result]:
    """Verify one after the other, and report each."""
    results = []
    deadline = time.monotonic() + how.limit_seconds
    for name, place in _longest_ago_first(tasks):
        left = max(deadline - time.monotonic(), 0.001)
        if name == SERVER:
            found = verify_wal(settings, how, Stanza(destinations.load()), place, seconds=left)
        else:
            found = verify(
                settings, how, name, arguments.backup,
                destination=place, kinds=kinds, seconds=left,
            )  # fmt: skip
        for result in found:
            results.append(result)
            if not arguments.json:
                _tell(result)
    return results


def _leave_marks(how: VerifySettings) -> list[BedstoneError]:
    """Leave at the destinations what came out; return why, where that failed."""
    try:
        return verification_reports.leave(
            destinations.load().remote, how.host or socket.gethostname()
        )
    except (BedstoneError, OSError, sqlite3.Error) as error:
        told = error if isinstance(error, BedstoneError) else BedstoneError(f"{error}.")
        return [told]


def _tell(result: Result) -> None:
    entry = result.entry
    of_what = f"the {entry.kind} of {entry.backup}" if entry.backup else f"the {entry.kind}"
    if entry.kind == WAL:
        of_what = "the WAL"
    if entry.destination != LOCAL or entry.kind == WAL:
        of_what += f" at {entry.destination}"
    whose = f"{entry.app}: " if entry.app else ""
    if result.problem is None:
        print(
            f"{whose}{of_what} is verified in {entry.seconds:.1f} s: {result.said}.",
            flush=True,
        )
        return
    verdict = "FAILED" if entry.state == "failed" else "could not be verified"
    logger.error("%s%s %s: %s", whose, of_what, verdict, result.problem.text())
