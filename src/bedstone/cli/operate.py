"""Share the code of `release`, `rollback` and `restart`: start, follow and report the operation."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bedstone.apps import config
from bedstone.core import names
from bedstone.core.errors import BedstoneError
from bedstone.release import detached
from bedstone.release.outcome import Outcome, StreamedOutput, never_begun

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    Do = Callable[[StreamedOutput], Outcome]

logger = logging.getLogger(__name__)

KILLED_EXIT_CODE = 1
INTERRUPTED_EXIT_CODE = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all operations have."""
    parser.add_argument("app", metavar="APP", help="the app's name in `bedstone_apps`")
    parser.add_argument("--verbose", action="store_true", help="show what build and commands print")
    parser.add_argument("--json", action="store_true", help="one JSON object when it has ended")
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="in this process, in place of a unit that outlives the terminal",
    )


def carry_out(
    arguments: argparse.Namespace,
    argv: Sequence[str],
    do: Do,
    *,
    title: str,
    wait_seconds: float = 0,
) -> int:
    """Carry an operation out, here or in the app's unit, and return the exit code.

    Args:
        arguments: of the command line.
        argv: the same for the unit's process.
        do: does it in this process.
        title: what is done, as text.
        wait_seconds: how long to wait for a running operation.

    """
    machine = bool(arguments.json)
    if not machine:
        print(title, flush=True)
    try:
        if arguments.foreground or not detached.installed():
            outcome = _here(arguments, do)
        else:
            config.load(arguments.app)
            detached.start(arguments.app, argv, wait_seconds=wait_seconds)
            if not machine:
                say(
                    f"  in {names.operation_unit(arguments.app)}: it goes on when this terminal is"
                    f" gone (`bedstone watch {arguments.app}`)"
                )
            found = follow(arguments.app, quiet=machine)
            if found is None:
                return KILLED_EXIT_CODE
            outcome = found
    except BedstoneError as error:
        if machine:
            print(json.dumps(never_begun(arguments.app, error)))
            return error.exit_code
        raise
    return print_outcome(outcome, machine=machine)


def follow(app: str, *, quiet: bool = False) -> Outcome | None:
    """Follow an app's operation and return how it went, or None when it was killed.

    Raises:
        BedstoneError: it couldn't begin.

    """
    try:
        end = detached.follow(app, nothing if quiet else say)
    except KeyboardInterrupt:
        print(
            f"\nIt goes on by itself. Look on: `bedstone watch {app}`. Call it off:"
            f" `systemctl stop {names.operation_unit(app)}`.",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    if end is None:
        print(
            f"bedstone: the operation was killed; what serves is put right by itself."
            f"\nhint: `bedstone status` tells; `journalctl -u {names.operation_unit(app)}` has its"
            " lines.",
            file=sys.stderr,
        )
        return None
    return Outcome.from_json(end)


def in_unit(app: str, run: Callable[[Sequence[str]], int]) -> int:
    """Run the operation that the app's unit is for; ``run`` is the command line's own entry."""
    request = detached.take(app)
    os.environ["BEDSTONE_CALLER"] = request.caller
    os.environ["BEDSTONE_OPERATION_LOG"] = app
    return run([*request.argv, "--foreground"])


def _here(arguments: argparse.Namespace, do: Do) -> Outcome:
    """Run it in this process; in the unit's process, followers get its output, too."""
    # Only where something is done: each import takes its time. And not later: a run
    # of Ansible may put another zipapp in its place during the operation.
    from bedstone.notify import events  # noqa: PLC0415

    with ExitStack() as stack:
        log: detached.Log | None = None
        if os.environ.pop("BEDSTONE_OPERATION_LOG", None) == arguments.app:
            log = stack.enter_context(detached.log(arguments.app))

        def both(line: str) -> None:
            # The unit's standard output is the journal.
            if log is not None or not arguments.json:
                say(line)
            if log is not None:
                log.line(line)

        output = StreamedOutput(both, both if arguments.verbose else None)
        try:
            outcome = do(output)
        except BedstoneError as error:
            if log is not None:
                log.end(never_begun(arguments.app, error))
            raise
        if (event := _event(outcome)) is not None:
            outcome.warnings += events.fire(events.Event(**event))
        if log is not None:
            log.end(outcome.as_json())
        return outcome


def _event(outcome: Outcome) -> dict[str, Any] | None:
    """Return what is reported to the hooks, or None."""
    if not outcome.changed or (outcome.ok and outcome.kind == "restart"):
        return None
    if outcome.ok and outcome.release == outcome.previous:
        return None
    kind = "failure"
    if outcome.ok:
        kind = "rollback" if outcome.kind == "rollback" else "release"
    return {
        "kind": kind,
        "title": sentence(outcome),
        "app": outcome.app,
        "release": outcome.release,
        "previous": outcome.previous,
        "failed_step": outcome.failed_step,
        "error": outcome.error,
        "hint": outcome.hint,
        "details": outcome.details,
        "seconds": outcome.seconds,
        "restore_point": outcome.restore_point,
    }


def sentence(outcome: Outcome) -> str:
    """Return how an operation went in one sentence."""
    app, kind = outcome.app, outcome.kind
    if not outcome.ok:
        return f"The {kind} of {app} failed at {outcome.failed_step}."
    if not outcome.changed:
        return f"Nothing to do: release {outcome.release} of {app} serves."
    if kind == "release" and outcome.release == outcome.previous:
        return f"Release {outcome.release} of {app} serves as it should again."
    how = {"release": "serves", "rollback": "serves again", "restart": "was started anew"}[kind]
    return f"Release {outcome.release} of {app} {how}, after {outcome.seconds:.1f} s."


def print_outcome(outcome: Outcome, *, machine: bool) -> int:
    """Print how an operation went, and return the exit code."""
    if machine:
        print(json.dumps(outcome.as_json()))
        return 0 if outcome.ok else outcome.exit_code
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if outcome.ok:
        print(sentence(outcome))
        return 0
    where = "" if outcome.failed_step == "begin" else f"failed at {outcome.failed_step}: "
    error = BedstoneError(f"{outcome.app}: {where}{outcome.error}", outcome.hint, outcome.details)
    logger.error("%s", error.text())
    if outcome.previous:
        print(f"Release {outcome.previous} serves on.", file=sys.stderr)
    return outcome.exit_code


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def nothing(line: str) -> None:
    """Print nothing."""
    del line
