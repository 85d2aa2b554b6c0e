"""Manage copies of the databases: `bedstone replica`, `bedstone promote`, `bedstone demote`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bedstone.cli import main
from bedstone.replica import primary, settings, standby

if TYPE_CHECKING:
    import argparse

_ACTIONS = {
    "seed": "on a standby: copy the primary again, in place of a copy that is broken",
    "follow": "on a standby: copy the primary if nothing is there yet, as site.yml does",
    "prepare": "on the primary: make the slots of the declared standbys, as site.yml does",
    "forget": "on the primary: drop all slots of standbys, as site.yml does without standbys",
}


def register(subparsers: main.Subparsers) -> None:
    """Add the commands."""
    listed = "\n".join(f"  {name:<8} {purpose}" for name, purpose in _ACTIONS.items())
    parser = main.add_command(
        subparsers,
        "replica",
        run,
        summary="copy the databases to this server again, and follow the primary",
        description=f"{listed}\n\n`bedstone status` says how far a copy is. While it is made, it"
        " needs the room of\nthe databases once more. docs/replica.md has the whole way.",
        examples=("bedstone replica seed", "bedstone replica seed --discard"),
    )
    parser.add_argument("action", choices=_ACTIONS)
    parser.add_argument(
        "--discard",
        action="store_true",
        help="with seed: also in place of data that is no copy; it is put aside",
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")

    parser = main.add_command(
        subparsers,
        "promote",
        run_promote,
        summary="make the primary of this server's copy of the databases",
        description="Refuses while the old primary answers. Prints what has to change in the"
        " inventory.",
        examples=("bedstone promote", "bedstone promote --force"),
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also while the old primary answers: it must be cut off from the apps",
    )

    main.add_command(
        subparsers,
        "demote",
        run_demote,
        summary="stop this server's PostgreSQL, so that a standby can take its place",
        description="Refuses when no standby streams. Apps can't write from then until a standby"
        " is promoted.\nStarted again, it is read-only. `bedstone promote` here undoes it.",
        examples=("bedstone demote",),
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action and report it."""
    changed, warnings = True, []
    if arguments.action == "seed":
        kept = standby.seed(discard=arguments.discard)
        words = "The primary was copied, and changes arrive from it."
        words += f" The data that was here before is in {kept}." if kept else ""
    elif arguments.action == "follow":
        outcome = standby.follow()
        changed, warnings = outcome.changed, outcome.warnings
        words = "This server follows its primary now." if changed else "It follows already."
    elif arguments.action == "prepare":
        changed = primary.prepare()
        words = "The slots are made." if changed else "The slots are there already."
    else:
        changed = primary.forget()
        words = "The slots were dropped." if changed else "There is no slot."
    if arguments.json:
        print(json.dumps({"changed": changed, "warnings": warnings}))
    else:
        print("\n".join([words if not warnings else f"{warnings[0]}.", *warnings[1:]]))
    return 1 if warnings and not arguments.json else 0


def run_promote(arguments: argparse.Namespace) -> int:
    """Promote, and print what is next."""
    before = primary.promote(force=arguments.force)
    print(primary.as_text(settings.load(), before))
    return 0


def run_demote(_arguments: argparse.Namespace) -> int:
    """Stop the primary, and print what is next."""
    found = settings.load()
    standby.step_down()
    names = " or ".join(each.name for each in found.replicas)
    print(
        f"PostgreSQL here is stopped; all that it has written is on {names}. There:"
        " `sudo bedstone promote`.\nTo undo it here:"
        f" `sudo systemctl start {found.cluster.unit} && sudo bedstone promote`."
    )
    return 0
