"""Follow, reconcile and run operations: `bedstone watch`, `settle` and `operation`."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.cli import main, operate
from bedstone.core import lock
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, releases
from bedstone.notify import events
from bedstone.release import detached, operations
from bedstone.release.outcome import StreamedOutput
from bedstone.restore import settle as restore_settle

if TYPE_CHECKING:
    import argparse

logger = logging.getLogger(__name__)


def register(subparsers: main.Subparsers) -> None:
    """Add the commands."""
    parser = main.add_command(
        subparsers,
        "watch",
        watch,
        summary="look on at an app's release, rollback or restart",
        description="Shows the lines of the one on its way, or of the last one since the server"
        " booted.\nIts exit code is the operation's. Ctrl-C ends only the looking on.",
        examples=("bedstone watch payments",),
    )
    parser.add_argument("app", metavar="APP")
    parser.add_argument("--json", action="store_true", help="one JSON object when it has ended")

    parser = main.add_command(
        subparsers,
        "settle",
        settle,
        summary="finish or undo what a killed operation has left",
        description="Units, slots, nginx, containers and the schema are made to agree with the"
        " ledger on\nthe release that serves. It runs by itself after a kill, at boot and before"
        " every\noperation; nothing is changed when all is as it should be.",
        examples=("bedstone settle", "bedstone settle payments"),
    )
    parser.add_argument("app", metavar="APP", nargs="*", help="default: all")
    parser.add_argument("--json", action="store_true", help="as JSON")

    parser = main.add_command(
        subparsers,
        "operation",
        operation,
        summary="carry out what was asked for (for systemd)",
        description="The unit bedstone-operation@APP runs it; a person seldom needs to.",
        examples=("systemctl status bedstone-operation@payments",),
    )
    parser.add_argument("app", metavar="APP")


def watch(arguments: argparse.Namespace) -> int:
    """Follow an operation and return its exit code."""
    if arguments.app not in config.declared():
        config.load(arguments.app)
    outcome = operate.follow(arguments.app, quiet=arguments.json)
    if outcome is None:
        return operate.KILLED_EXIT_CODE
    return operate.print_outcome(outcome, machine=arguments.json)


def settle(arguments: argparse.Namespace) -> int:
    """Reconcile apps; skip those with an operation that is running."""
    # systemd runs this after every end of an operation's unit (ExecStopPost=); one that ended
    # by itself has left nothing behind.
    if os.environ.get("EXIT_CODE") == "exited":
        return 0
    results, code = [], 0
    if (unreadable := database.problem()) is not None:
        # The serving release is reconciled from the apps' files; the failed unit raises an alarm.
        logger.error("%s", unreadable)
        code = 1
    with database.opened() as connection:
        names = arguments.app or sorted({*config.declared(), *releases.known_apps(connection)})
    for name in names:
        try:
            restore_settle.settle(name)
            outcome = operations.put_right(name, output=StreamedOutput(_error_line))
        except lock.LockedError as error:
            print(f"{name}: {error.message}", file=sys.stderr)
            continue
        except BedstoneError as error:
            logger.error("%s: %s", name, error.text())  # noqa: TRY400 - a person reads it
            code = 1
            continue
        results.append(outcome.as_json())
        for killed in outcome.interrupted:
            # No caller was left to report it.
            events.fire(
                events.Event(kind="failure", title=killed, app=name, release=outcome.release)
            )
        if not outcome.ok:
            code = 1
            logger.error("%s: %s", name, outcome.error)
        elif not arguments.json:
            said = "; ".join([*outcome.warnings, *outcome.put_right])
            print(f"{name}: {said or 'all as it should be'}")
    if arguments.json:
        print(json.dumps(results))
    return code


def operation(arguments: argparse.Namespace) -> int:
    """Run the requested operation."""
    os.environ.pop("EXIT_CODE", None)
    try:
        return operate.in_unit(arguments.app, main.main)
    except BedstoneError as error:
        with detached.log(arguments.app) as log:
            log.line(error.text())
        raise


def _error_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
