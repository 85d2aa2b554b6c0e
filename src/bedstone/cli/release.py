"""Release an app: `bedstone release`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.cli import main, operate
from bedstone.core.errors import BedstoneError
from bedstone.release import changes
from bedstone.release.context import ReleaseOptions
from bedstone.release.outcome import never_begun

if TYPE_CHECKING:
    import argparse

    from bedstone.release.outcome import Outcome

_DESCRIPTION = """\
The image is built (or pulled, or loaded) and the app's checks run in it; what its
migrations would do is judged; a restore point is made if they change the schema, and
they run; the new slot is started beside the old one, and only when it is healthy nginx
sends requests to it; workers follow. Whatever fails on the way is undone: the release
that served before serves on.

It runs in the unit bedstone-operation@APP and outlives this terminal: Ctrl-C or a lost
connection ends only the looking on; `bedstone watch APP` looks on again. To call it
off: `systemctl stop bedstone-operation@APP`, which undoes what it has done.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "release",
        release,
        summary="put the declared version of an app into service",
        description=_DESCRIPTION,
        examples=(
            "bedstone release payments                 # build and release it now",
            "bedstone release payments --if-changed    # only if source or settings are new",
            "bedstone release payments --rebuild      # on the newest base image",
            "bedstone release payments --accept payments.0007_drop_note",
            "bedstone release payments --json | jq .steps",
        ),
    )
    operate.add_arguments(parser)
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
    parser.add_argument(
        "--accept",
        metavar="MIGRATION",
        action="append",
        default=[],
        help="a migration that the running release can live with, whatever the gate says;"
        " may be repeated",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="build every layer anew, on the newest version of the base image",
    )


def release(arguments: argparse.Namespace) -> int:
    """Release an app and report the outcome."""
    if arguments.dry_run:
        return _forecast(arguments)
    if arguments.if_changed and not arguments.foreground:
        try:
            unchanged = _unchanged(arguments.app, rebuild=arguments.rebuild)
        except BedstoneError as error:
            if arguments.json:
                print(json.dumps(never_begun(arguments.app, error)))
                return error.exit_code
            raise
        if unchanged is not None:
            return operate.print_outcome(unchanged, machine=arguments.json)
    return _carry_out(arguments, arguments.app)


def _carry_out(arguments: argparse.Namespace, name: str) -> int:
    # Loaded only where something is to be done: each import takes its time.
    from bedstone.release import operations  # noqa: PLC0415

    options = ReleaseOptions(accepted=tuple(arguments.accept), rebuild=arguments.rebuild)
    argv = ["release", name]
    argv += ["--if-changed"] if arguments.if_changed else []
    argv += ["--rebuild"] if arguments.rebuild else []
    argv += ["--verbose"] if arguments.verbose else []
    argv += [part for accepted in arguments.accept for part in ("--accept", accepted)]
    return operate.carry_out(
        arguments,
        argv,
        lambda output: operations.release(
            name, if_changed=arguments.if_changed, options=options, output=output
        ),
        title=f"Releasing {name}",
        # An earlier run of Ansible whose connection was lost: it is waited for.
        wait_seconds=operations.WAIT_FOR_RUNNING_SECONDS if arguments.if_changed else 0,
    )


def _unchanged(name: str, *, rebuild: bool) -> Outcome | None:
    """Return the outcome when there is nothing to do, else None.

    What a reference of a registry stands for is known only after a pull.
    """
    if any(image.kind == "pull" for image in config.load(name).images.values()):
        return None
    outcome = changes.would_change(name, rebuild=rebuild)
    return None if outcome.changed else outcome


def _forecast(arguments: argparse.Namespace) -> int:
    outcome = changes.would_change(arguments.app, rebuild=arguments.rebuild)
    if arguments.json:
        print(json.dumps(outcome.as_json()))
    elif outcome.changed:
        why = "; ".join([*([outcome.reason] if outcome.reason else []), *outcome.put_right])
        print(f"{outcome.app}: would change something: {why}.")
    else:
        print(f"{outcome.app}: nothing to do, {outcome.release} serves.")
    return 0
