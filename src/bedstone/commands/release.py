"""`bedstone release` and `bedstone releases`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from bedstone import cli, config, history, ledger, perform
from bedstone.errors import BedstoneError

if TYPE_CHECKING:
    import argparse

    from bedstone.perform import Outcome

_DESCRIPTION = """\
The image is built (or pulled, or loaded), the app's checks run in it, the schema
is migrated, the new slot is started beside the old one, and only when it is
healthy nginx sends requests to it. Whatever fails on the way is undone: the
release that served before serves on.
"""


def register(subparsers: cli.Subparsers) -> None:
    """Add the commands."""
    parser = cli.add_command(
        subparsers,
        "release",
        release,
        summary="put the declared version of an app into service",
        description=_DESCRIPTION,
        examples=(
            "bedstone release payments                 # build and release it now",
            "bedstone release payments --if-changed    # only if source or settings are new",
            "bedstone release payments --json | jq .steps",
        ),
    )
    parser.add_argument("app", metavar="APP", help="the app's name in `bedstone_apps`")
    parser.add_argument(
        "--if-changed",
        action="store_true",
        help="nothing when source, settings and environment are those that serve;"
        " what of them doesn't run is started",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only say whether --if-changed would do anything",
    )
    parser.add_argument("--verbose", action="store_true", help="show what build and commands print")
    parser.add_argument("--json", action="store_true", help="one JSON object when it has ended")

    parser = cli.add_command(
        subparsers,
        "releases",
        releases,
        summary="list an app's releases, the newest first",
        examples=("bedstone releases payments",),
    )
    parser.add_argument("app", metavar="APP")
    parser.add_argument("--json", action="store_true", help="as JSON")


def release(arguments: argparse.Namespace) -> int:
    """Release an app and tell how it went."""
    machine = bool(arguments.json)
    try:
        if arguments.dry_run:
            outcome = perform.would_change(arguments.app)
        else:
            if not machine:
                print(f"Releasing {arguments.app}", flush=True)
            outcome = perform.perform(
                arguments.app,
                if_changed=arguments.if_changed,
                say=_nothing if machine else _say,
                on_line=_say if arguments.verbose and not machine else None,
            )
    except BedstoneError as error:
        if machine:
            print(
                json.dumps(
                    {
                        "ok": False,
                        "app": arguments.app,
                        "changed": False,
                        "failed_step": "begin",
                        "error": error.message,
                        "hint": error.hint,
                        "details": error.details,
                    }
                )
            )
            return error.exit_code
        raise
    if machine:
        print(json.dumps(outcome.as_json()))
    elif arguments.dry_run:
        print(_forecast(outcome))
    else:
        _tell(outcome)
    return 0 if outcome.ok else 1


def releases(arguments: argparse.Namespace) -> int:
    """List an app's releases."""
    with ledger.opened() as connection:
        if arguments.app not in {*config.declared(), *history.known_apps(connection)}:
            config.load(arguments.app)
        serving = history.serving(connection, arguments.app)
        entries = history.entries(connection, arguments.app)
    current = serving.release if serving else None
    if arguments.json:
        rows = [
            {
                "release": entry.id,
                "serves": entry.id == current,
                "state": entry.state,
                "started_at": entry.started_at,
                "finished_at": entry.finished_at,
                "image": entry.image,
                "failed_step": entry.failed_step,
                "error": entry.error,
            }
            for entry in entries
        ]
        print(json.dumps(rows))
        return 0
    if not entries:
        print(f"{arguments.app} has no release yet.")
    for entry in entries:
        mark = "*" if entry.id == current else " "
        ended = entry.state if entry.state != "failed" else f"failed at {entry.failed_step}"
        print(f"{mark} {entry.id:<40} {ended}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _nothing(line: str) -> None:
    del line


def _forecast(outcome: Outcome) -> str:
    if not outcome.changed:
        return f"{outcome.app}: nothing to do, {outcome.release} serves."
    why = "; ".join([*([outcome.reason] if outcome.reason else []), *outcome.put_right])
    return f"{outcome.app}: would change something: {why}."


def _tell(outcome: Outcome) -> None:
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not outcome.ok:
        error = BedstoneError(
            f"{outcome.app}: failed at {outcome.failed_step}: {outcome.error}",
            outcome.hint,
            outcome.details,
        )
        print(f"bedstone: {error.text()}", file=sys.stderr)
        if outcome.previous:
            print(f"Release {outcome.previous} serves on.", file=sys.stderr)
    elif outcome.changed and outcome.release != outcome.previous:
        print(f"Release {outcome.release} of {outcome.app} serves, after {outcome.seconds:.1f} s.")
    elif outcome.changed:
        print(f"Release {outcome.release} of {outcome.app} serves as it should again.")
    else:
        print(f"Nothing to do: release {outcome.release} of {outcome.app} serves.")
