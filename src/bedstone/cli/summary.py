"""Show or send the summary of the last day: `bedstone summary`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.cli import main
from bedstone.notify import events, settings
from bedstone.status import gather, summary

if TYPE_CHECKING:
    import argparse

# No person waits for it.
_SECONDS, _LIMIT_SECONDS = 30.0, 100.0

_DESCRIPTION = """\
What happened in the last 24 hours, and how the server is now: what needs attention, warnings
and alarms that are over, then for each app its release, releases and rollbacks of the day,
backup, copy and verification, then disks, databases and certificates.

bedstone-summary.timer sends it each day at `bedstone_summary` of the settings (`--tell`), to the
hooks with the event `summary`: a mail, a chat's webhook, a command.

Exit code 1: with --tell, a hook failed.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "summary",
        show,
        summary="the last day in one message: releases, backups, alarms, disks, certificates",
        description=_DESCRIPTION,
        examples=(
            "bedstone summary",
            "bedstone summary --tell    # to the hooks, as each day",
        ),
    )
    parser.add_argument("--tell", action="store_true", help="send it to the hooks, as each day")


def show(arguments: argparse.Namespace) -> int:
    """Compose the summary and print it, or send it to the hooks."""
    # A hook that can't be read is told before anything is gathered.
    configured = settings.load()
    now = datetime.now(UTC)
    picture = gather.gather(gather.Tools(seconds=_SECONDS))
    event = summary.compose(picture, summary.happened(picture, now), now)
    if not arguments.tell:
        print(f"{event.title}\n\n{event.details}")
        return 0
    results = events.deliver(configured, event, _LIMIT_SECONDS)
    if not results:
        print("No hook has the event `summary`: `bedstone_hooks` in the settings.")
    for result in results:
        if result.error is None:
            print(f"ok      {result.hook} ({result.seconds:.1f} s)")
        else:
            print(f"FAILED  {result.hook} {result.error}", file=sys.stderr)
    return 1 if any(result.error for result in results) else 0
