"""List the destinations and copy backups there: ``bedstone destinations`` and ``bedstone copy``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.cli.main import add_command
from bedstone.core import age, disk
from bedstone.core.errors import RefusedError
from bedstone.core.lock import LockedError
from bedstone.core.signals import terminable
from bedstone.notify.alarms import Alarm
from bedstone.notify.report import report
from bedstone.offsite import freshness, sync, uploads_sync
from bedstone.offsite import observe as arrivals_measured
from bedstone.storage import destinations
from bedstone.verify import alerts
from bedstone.wal import observe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from bedstone.backup.settings import App, Settings
    from bedstone.cli.main import Subparsers
    from bedstone.offsite.freshness import Item
    from bedstone.offsite.sync import Result
    from bedstone.storage.destinations import Destination, Destinations

logger = logging.getLogger(__name__)

_HEADINGS = ("DESTINATION", "APP", "KIND", "NEWEST", "AGE", "SIZE", "SEEN", "STATE")
_SCOPE = "destinations"
_WAIT_SECONDS = 1800.0


def register(subparsers: Subparsers) -> None:
    """Add the commands to the command line."""
    parser = add_command(
        subparsers,
        "destinations",
        _destinations,
        summary="show where backups are kept, and how fresh they are there",
        description=(
            "Shows what was last seen at each destination: the newest of each kind, its age and\n"
            "what is wrong. With --check, it looks there now. bedstone-destinations.timer does so\n"
            "each hour, and tells the hooks what turns red, and again each day while it is.\n\n"
            "Red is what is older than 26 hours, has never arrived, is damaged or needs another\n"
            "key, and a destination that is out of reach for more than two hours. Uploads that\n"
            "are copied between backups are red after four intervals, and not before two hours;\n"
            "their age is the time since they were last compared.\n\n"
            "Exit code 1: with --check, something is red."
        ),
        examples=(
            "bedstone destinations",
            "bedstone destinations --check",
            "bedstone destinations --json | jq '.items[] | select(.problem)'",
        ),
    )
    parser.add_argument("--check", action="store_true", help="look at the destinations now")
    parser.add_argument(
        "--tell", action="store_true", help="tell the hooks what has turned red; exit code 0"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser = add_command(
        subparsers,
        "copy",
        _copy,
        summary="copy backups to the destinations now",
        description=(
            "Sends what is missing at each destination: full backups with their uploads, the\n"
            "configuration of this server (settings, secrets, ledger) and the images of the\n"
            "releases that serve, all encrypted with the backup key. Then removes what has served\n"
            "its time there, and looks at what is there now. The nightly backup starts it; what\n"
            "failed is sent by the next run.\n\n"
            "With --uploads, it sends the uploads alone, as they are now, of the apps that\n"
            "declare `copy_every_minutes` in their `media`. bedstone-uploads.timer does so\n"
            "between the backups; `bedstone destinations` shows when it last did, and the hooks\n"
            "are told when they are late.\n\n"
            "Exit code 1: something didn't arrive; 3: refused, since another run is on its way.\n"
            "What one destination refuses keeps no other from getting its copy."
        ),
        examples=(
            "bedstone copy",
            "bedstone copy payments --destination offsite",
            "bedstone copy payments --backup backup_20261120_020000   # a restore point, too",
            "bedstone copy payments --uploads",
        ),
    )
    parser.add_argument("app", metavar="APP", nargs="*", help="the apps (default: all)")
    parser.add_argument("--destination", metavar="NAME", help="one of them (default: all)")
    parser.add_argument("--backup", metavar="NAME", help="this one alone, of one app")
    parser.add_argument(
        "--new-repository",
        action="store_true",
        help="begin anew where the repository is gone",
    )
    parser.add_argument("--uploads", action="store_true", help="the uploads of now alone")
    parser.add_argument(
        "--due",
        action="store_true",
        help="with --uploads: where `copy_every_minutes` have passed, and no other copy is running;"
        " exit code 0 for what a destination refuses",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _destinations(arguments: argparse.Namespace) -> int:
    settings, known = backup_settings.load(), destinations.load()
    if arguments.check or arguments.tell:
        check(settings, known)
    items = freshness.items(settings, known)
    red = [item for item in items if item.problem]
    if arguments.tell:
        found = report(_SCOPE, as_alarms(items), about="Backups aren't where they should be:")
        for warning in (*found, *alerts.report(settings)):
            logger.warning("%s", warning)
    if arguments.json:
        print(json.dumps(_as_json(known, items), indent=2))
    else:
        for place in known.all:
            print(f"{place.name}: {place.words()}")
        print(f"\n{_table(items)}" if items else "\nNo app has data on this server.")
        if red:
            print("\nNeeds attention:")
        for item in red:
            print(f"  {item.words()}")
    return 1 if red and arguments.check and not arguments.tell else 0


def check(settings: Settings, known: Destinations) -> None:
    """Check all destinations now, and record what is there."""
    for place in known.all:
        arrivals_measured.measure(settings, place)
    observe.measure_all(known)


def as_alarms(items: Sequence[Item]) -> list[Alarm]:
    """Return the problems as alarms."""
    command = "`bedstone destinations --check` looks at all of them."
    return [
        Alarm(item.name, "red", item.words(), command, item.app or None)
        for item in items
        if item.problem
    ]


def _copy(arguments: argparse.Namespace) -> int:
    settings, known = backup_settings.load(), destinations.load()
    names = arguments.app or [entry.app for entry in settings.apps]
    apps = [settings.app(name) for name in dict.fromkeys(names)]
    if arguments.backup and len(apps) != 1:
        raise RefusedError("--backup names a backup of one app: say of which one.")
    wanted = list(known.remote)
    if arguments.destination:
        wanted = [known.get(arguments.destination)]
    if any(place.is_local for place in wanted):
        raise RefusedError("Backups are made on this server: there is nothing to copy to `local`.")
    if arguments.uploads or arguments.due:
        return _copy_uploads(arguments, wanted, apps)
    with terminable():
        results = sync.run(
            settings,
            known,
            wanted=wanted,
            apps=apps,
            backup=arguments.backup,
            configuration=not arguments.app,
            anew=arguments.new_repository,
            # A release or the night's backup may have begun one.
            wait_seconds=_WAIT_SECONDS,
            say=_say(arguments),
        )
    _show(arguments, wanted, results)
    return 1 if any(result.problems for result in results) else 0


def _copy_uploads(
    arguments: argparse.Namespace, wanted: Sequence[Destination], apps: Sequence[App]
) -> int:
    if arguments.due and not arguments.uploads:
        raise RefusedError("--due is about uploads: add --uploads.")
    if arguments.backup or arguments.new_repository:
        raise RefusedError("--uploads sends the uploads of now: no backup, to no new repository.")
    without = [app.app for app in apps if app.copy_every is None]
    if without and (arguments.app or len(without) == len(apps)) and not arguments.due:
        raise RefusedError(
            f"The uploads of {', '.join(without)} are copied with the backups only.",
            hint="Declare `copy_every_minutes` in `media` of the app, and run `provision.yml`.",
        )
    try:
        with terminable():
            results = uploads_sync.run(
                wanted=wanted,
                apps=apps,
                due=arguments.due,
                wait_seconds=0 if arguments.due else _WAIT_SECONDS,
                say=_say(arguments),
            )
    except LockedError as error:
        if not arguments.due:
            raise
        logger.info("%s The uploads have their turn in five minutes.", error.message)
        return 0
    if results or not arguments.due:
        _show(arguments, wanted, results)
    # The hooks are told once it is late, not at each turn.
    return 1 if any(result.problems for result in results) and not arguments.due else 0


def _say(arguments: argparse.Namespace) -> Callable[[str], None]:
    return (lambda _: None) if arguments.json else (lambda text: print(text, flush=True))


def _show(
    arguments: argparse.Namespace, wanted: Sequence[Destination], results: Sequence[Result]
) -> None:
    if arguments.json:
        print(json.dumps({"destinations": [result.as_json() for result in results]}, indent=2))
        return
    if not wanted:
        print("No destination is declared (docs/settings.md, `bedstone_backup`).")
    for result in results:
        _print(result)


def _print(result: Result) -> None:
    for sentence in result.sent:
        print(f"{result.destination}: has {sentence}")
    if result.removed:
        print(f"{result.destination}: removed after their time: {', '.join(result.removed)}")
    if not (result.sent or result.problems or result.notes):
        print(f"{result.destination}: has all that it should have")
    for note in result.notes:
        logger.warning("%s: %s", result.destination, note)
    for problem in result.problems:
        logger.error("%s: %s", result.destination, problem.text())


def _as_json(known: Destinations, items: Sequence[Item]) -> dict[str, Any]:
    return {
        "ok": all(item.problem is None for item in items),
        "destinations": [
            {"name": place.name, "type": place.type, "where": place.words()} for place in known.all
        ],
        "items": [item.as_json() for item in items],
    }


def _table(items: Sequence[Item]) -> str:
    rows = [_HEADINGS]
    for item in items:
        seen = item.seen
        shown = item.as_json()
        checked = seen.checked_at if seen else None
        rows.append(
            (
                item.destination,
                item.app or "-",
                item.kind,
                (seen.newest if seen else None) or "-",
                age.humanize(shown["age_seconds"]) if shown["age_seconds"] is not None else "-",
                disk.human(shown["bytes"]) if shown["bytes"] is not None else "-",
                f"{age.since(checked.isoformat())} ago" if checked else "never",
                f"RED: {item.problem}" if item.problem else item.note or "fresh",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
