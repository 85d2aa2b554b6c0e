"""Report a failed unit to the hooks, or test them all: `bedstone notify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bedstone.cli import main
from bedstone.core.errors import BedstoneError
from bedstone.notify import events, settings, unit_failures

if TYPE_CHECKING:
    import argparse

    from bedstone.notify.delivery import Result
    from bedstone.notify.events import Event

# No process waits for it, but the unit that runs it has a limit of three minutes, and systemd and
# journald may take more than one of them.
_LIMIT_SECONDS = 100.0


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "notify",
        notify,
        summary="try the hooks, or tell them that a unit failed",
        description="The hooks come from `bedstone_hooks` in the settings: a webhook, mail or\n"
        "command that hears of releases, rollbacks and failures. systemd runs\n"
        "`bedstone notify --unit UNIT` when a backup or a job fails.\n"
        "The exit code is 1 when a hook failed.",
        examples=(
            "bedstone notify --test                           # a message through every hook",
            "bedstone notify --unit bedstone-backup.service   # what systemd does on a failure",
        ),
    )
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--test", action="store_true", help="send a test message through every hook")
    one.add_argument("--unit", metavar="UNIT", help="a systemd unit that has failed")


def notify(arguments: argparse.Namespace) -> int:
    """Run the hooks and print the result of each one."""
    configured = settings.load()
    if arguments.test and not configured.hooks:
        raise BedstoneError(
            "This server has no hooks.",
            hint="Declare them as `bedstone_hooks` in the settings, for instance"
            " `[{events: [failure], mail: [ops@example.com]}]`, and run `site.yml`.",
        )
    if arguments.unit and unit_failures.is_restarted(arguments.unit):
        print(f"systemd starts {arguments.unit} again by itself: no hook is told.")
        return 0
    event = _test() if arguments.test else unit_failures.event_of(arguments.unit)
    results = events.deliver(configured, event, _LIMIT_SECONDS)
    if not results:
        print(f"{event.title} No hook wants to hear of failures.")
    for result in results:
        _tell(result, with_output=arguments.test and sys.stdout.isatty())
    return 1 if any(result.error for result in results) else 0


def _test() -> Event:
    return events.Event(
        kind="test",
        title="This is a test of Bedstone's hooks: nothing has happened.",
        hint="Nothing. A real message would say here what to do.",
        details="Here the last lines of a log would show why.",
    )


def _tell(result: Result, *, with_output: bool) -> None:
    if result.error is None:
        print(f"ok      {result.hook} ({result.seconds:.1f} s)")
        return
    print(f"FAILED  {result.hook} {result.error}", file=sys.stderr)
    if with_output and result.output:
        # At a terminal alone: what a command prints may hold a secret.
        for line in result.output.splitlines():
            print(f"  | {line}", file=sys.stderr)
