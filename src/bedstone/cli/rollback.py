"""Roll an app back, or restart its serving release: `bedstone rollback` and `bedstone restart`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.cli import main, operate
from bedstone.release import operations
from bedstone.release.context import ReleaseOptions

if TYPE_CHECKING:
    import argparse

_ROLLBACK = """\
The release before the one that serves, or a named one of those that are kept
(`bedstone releases APP`), serves again: its image and its settings, in the other slot,
looked at through the front door before the present one is drained and stopped.

Secrets are those of today: a password that was changed since is changed in the database,
too, and with the one of then the release could not even start. --old-secrets takes
those of then.

The schema: when migrations were applied since, the newer image undoes them, after a fresh
restore point: after the switch when the older release can live with the newer schema
(nothing is dark), else before it. When one of them can't be undone, the rollback is
refused and names the restore point and the commands that would bring the data of then
back. It never runs old code on a schema that it can't read.

What was rolled back isn't released again by `site.yml` until its source or its settings
change, or somebody says `bedstone release APP`.
"""

_RESTART = """\
The release that serves is started anew in the other slot, and only when it is healthy
nginx sends requests there; the present one is drained and stopped; workers restart warm.
No request fails.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the commands."""
    parser = main.add_command(
        subparsers,
        "rollback",
        rollback,
        summary="let a release of before serve again",
        description=_ROLLBACK,
        examples=(
            "bedstone rollback payments                              # to the one before",
            "bedstone rollback payments 20261120_101500-v1.4.2       # to a named one",
            "bedstone rollback payments --keep-schema                # leave newer migrations",
        ),
    )
    operate.add_arguments(parser)
    parser.set_defaults(late="release")
    parser.add_argument(
        "release",
        metavar="RELEASE",
        nargs="?",
        help="its id or the beginning of it (default: the one before)",
    )
    parser.add_argument(
        "--keep-schema",
        action="store_true",
        help="leave the schema as it is: you know that the older release can read it",
    )
    parser.add_argument(
        "--old-secrets", action="store_true", help="with the passwords and keys of that time, too"
    )
    parser = main.add_command(
        subparsers,
        "restart",
        restart,
        summary="start the release that serves anew, without a failed request",
        description=_RESTART,
        examples=("bedstone restart payments",),
    )
    operate.add_arguments(parser)


def rollback(arguments: argparse.Namespace) -> int:
    """Roll an app back and report the outcome."""
    name, wanted = arguments.app, arguments.release
    options = ReleaseOptions(keep_schema=arguments.keep_schema, old_secrets=arguments.old_secrets)
    argv = ["rollback", name, *([wanted] if wanted else [])]
    argv += ["--keep-schema"] if arguments.keep_schema else []
    argv += ["--old-secrets"] if arguments.old_secrets else []
    argv += ["--verbose"] if arguments.verbose else []
    return operate.carry_out(
        arguments,
        argv,
        lambda output: operations.rollback(name, wanted, options=options, output=output),
        title=f"Rolling {name} back{f' to {wanted}' if wanted else ''}",
    )


def restart(arguments: argparse.Namespace) -> int:
    """Restart an app and report the outcome."""
    name = arguments.app
    argv = ["restart", name, *(["--verbose"] if arguments.verbose else [])]
    return operate.carry_out(
        arguments,
        argv,
        lambda output: operations.restart(name, output=output),
        title=f"Restarting {name}",
    )
