"""List the alarms, each with the command that fixes it: `bedstone alarms`."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from bedstone import watch
from bedstone.cli import main
from bedstone.core import terminal
from bedstone.notify import alarms
from bedstone.notify.report import report

if TYPE_CHECKING:
    import argparse

    from bedstone.watch import Look

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Looks at certificates (what lies there and what is served), services that are down, have
failed or crash again and again, disks and inodes, the clock, upgrades, dpkg, reboots that
are owed, programs that run on replaced files, the age of images, data that restores have
put aside, ledger and journal. docs/operations.md has the table.

bedstone-alarms.timer does so each hour and tells the hooks (`--tell`): what begins, once;
what is red, again each day; what is over, once. A check that can't be judged is told, too.

Exit code 1: something is red.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "alarms",
        show,
        summary="look now for what needs a person, and how to mend it",
        description=_DESCRIPTION,
        examples=(
            "bedstone alarms",
            "bedstone alarms --json | jq '.alarms[] | select(.severity == \"red\")'",
            "bedstone alarms --json | jq '.certificates'",
        ),
    )
    parser.add_argument(
        "--tell", action="store_true", help="tell the hooks, as each hour; exit code 0"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def show(arguments: argparse.Namespace) -> int:
    """Run the checks, print the alarms, and report them to the hooks if asked to."""
    found = watch.run_checks()
    if arguments.tell:
        watch.save(found)
        for warning in report(watch.SCOPE, found.alarms, found.unjudged):
            logger.warning("%s", warning)
    if arguments.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        paint = terminal.Paint()
        for alarm in found.alarms:
            color = "red" if alarm.severity == "red" else "yellow"
            print(f"{paint(color, alarm.severity.ljust(7))} {alarm.text()}")
        if not found.alarms:
            print(f"Nothing needs attention: {len(found.facts)} checks are well.")
    red = any(alarm.severity == "red" for alarm in found.alarms)
    return 1 if red and not arguments.tell else 0


def _as_json(found: Look) -> dict[str, object]:
    since = alarms.since(watch.SCOPE)
    return {
        "at": found.at.isoformat(timespec="seconds"),
        "alarms": [{**alarm.as_json(), "since": since.get(alarm.name)} for alarm in found.alarms],
        "unjudged": found.unjudged,
        "certificates": [entry.as_json() for entry in found.facts.get("certificates") or ()],
    }
