"""Rebuild a lost server from its backups: ``bedstone rebuild``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.cli.main import add_command
from bedstone.core import names
from bedstone.core.errors import RefusedError
from bedstone.core.signals import terminable
from bedstone.rebuild import hold
from bedstone.rebuild.run import finish, prepare, rebuild, serve_kept
from bedstone.restore import source
from bedstone.storage import destinations

if TYPE_CHECKING:
    import argparse

    from bedstone.cli.main import Subparsers


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "rebuild",
        _command,
        summary="bring a server that is gone back onto this new one, from a destination",
        description=(
            "playbooks/rebuild.yml runs it between the roles; alone it makes half a server.\n\n"
            "Refuses a server with data, before anything is touched. The whole PostgreSQL cluster\n"
            "comes back to the end of the archived log (or to --time) beside the empty one and\n"
            "takes its place; then the ledger, the kept releases with their images, and the\n"
            "uploads. Without a log at the destination, each app's newest dump is restored.\n"
            "Killed, the same command goes on.\n\n"
            "Exit code 3: refused, and nothing was touched."
        ),
        examples=(
            "bedstone rebuild --destination offsite",
            "bedstone rebuild --destination offsite --time '2026-11-20 17:00:00 UTC'",
            "bedstone rebuild --destination vault --as-of '2026-11-20 03:00:00 UTC'",
            "bedstone rebuild --finish        # archiving works, a full backup begins",
        ),
    )
    parser.add_argument(
        "--destination", metavar="NAME", help="where from (`bedstone destinations`)"
    )
    parser.add_argument(
        "--time",
        metavar="TIME",
        help="the moment to go back to, with its time zone (default: the end of the archived log)",
    )
    parser.add_argument(
        "--as-of",
        metavar="TIME",
        help="read the destination, a versioned S3 bucket, as it was at this moment: before"
        " something deleted or changed what is there",
    )
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="only the start: refuse a server with data, hold the backups back, settle a rebuild"
        " that was killed",
    )
    parser.add_argument("--resume", action="store_true", help="only let the backups run again")
    parser.add_argument(
        "--finish",
        action="store_true",
        help="only the end: see that the log is archived, begin a full backup, tidy up",
    )
    parser.add_argument(
        "--serve",
        nargs="*",
        metavar="APP",
        help="only start the releases of these apps that were restored; print as JSON of which"
        " apps there is none",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _command(arguments: argparse.Namespace) -> int:
    # First: what can't be read is told before anything is changed, by `--prepare`, too.
    target = source.moment(arguments.time) if arguments.time else None
    as_of = source.moment(arguments.as_of) if arguments.as_of else None
    if arguments.prepare:
        prepare()
        return 0
    if arguments.resume:
        hold.resume()
        return 0
    with terminable():
        if arguments.serve is not None:
            print(json.dumps(serve_kept(arguments.serve)))
            return 0
        if arguments.finish:
            facts = finish()
        elif arguments.destination is None:
            raise RefusedError(
                "Say where from: `bedstone rebuild --destination NAME`.",
                hint=f"There are: {', '.join(d.name for d in destinations.load().all)}.",
            )
        else:
            facts = rebuild(arguments.destination, target, as_of=as_of, asked=arguments.yes)
    print(json.dumps(facts, indent=2) if arguments.json else "\n".join(result_lines(facts)))
    return 0


def result_lines(facts: dict[str, Any]) -> list[str]:
    """Return what was restored, as text."""
    lines = []
    if facts.get("kind") == "cluster" and facts["last_commit"]:
        lines.append(
            f"The databases are as they were at {_shown(facts['last_commit'])}: that is the last"
            f" transaction in the log at {facts['destination']} (backup {facts['backup']}, up to"
            f" {facts['lsn']})."
        )
    elif facts.get("kind") == "cluster":
        lines.append(
            f"The databases are as they were when {facts['backup']} was made: the log at"
            f" {facts['destination']} has no transaction since (up to {facts['lsn']})."
        )
    for app, name in (facts.get("dumps") or {}).items():
        lines.append(f"{app}: the database and the uploads are those of {name}; no log was there.")
    for app, release in (facts.get("releases") or {}).items():
        lines.append(
            f"{app}: the release {release} is the last that was copied to {facts['destination']}."
        )
    for app, upload in (facts.get("media") or {}).items():
        lines.append(f"{app}: {upload['files']} uploaded files, as of {_shown(upload['started'])}.")
    lines += [f"{app}: there was no database of it." for app in facts.get("without_database") or ()]
    lines += list(facts.get("warnings") or ())
    if facts.get("archived"):
        lines.append(
            f"The log is archived again at {', '.join(facts['archived'])}; a full backup has begun"
            f" (`systemctl status {names.FULL_BACKUP_UNIT}`)."
        )
    return lines


def _shown(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
