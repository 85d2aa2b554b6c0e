"""Show the ledger's version, and rebuild it when it can't be read: `bedstone ledger`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bedstone.cli import main
from bedstone.core import paths
from bedstone.core.errors import RefusedError
from bedstone.ledger import database
from bedstone.release import ledger_rebuild

if TYPE_CHECKING:
    import argparse


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "ledger",
        rebuild,
        summary="make the server's record again when it can't be read",
        description="The ledger records what was released, backed up and proved. The apps serve\n"
        "without it. `rebuild` makes it again from the kept releases, the apps' files and\n"
        "the backups' manifests, and from what of the old file can still be read; the old\n"
        "file is kept, and what couldn't be recovered is said. Does nothing to one that can\n"
        "be read.",
        examples=("bedstone ledger rebuild", "bedstone ledger version --json"),
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = actions.add_parser("rebuild", help="make it again from the kept files")
    action.set_defaults(func=rebuild)
    action = actions.add_parser("version", help="the schema of the program and of the ledger")
    action.add_argument(
        "--fits",
        action="store_true",
        help="exit with 3 when a newer program wrote the ledger (before a program is installed)",
    )
    action.add_argument("--json", action="store_true", help="as JSON")
    action.set_defaults(func=version)


def rebuild(arguments: argparse.Namespace) -> int:
    """Make the ledger again unless it can be read."""
    del arguments
    wrong = database.problem()
    if wrong is None:
        print(f"The ledger {paths.ledger()} can be read: nothing to do.")
        return 0
    print(wrong)
    kept, lost = ledger_rebuild.rebuild()
    print(f"The ledger {paths.ledger()} was made again from the kept files.")
    if kept is not None:
        print(f"The old file is kept as {kept}.")
    for text in dict.fromkeys(lost):
        print(f"  not recovered: {text}")
    print("`bedstone status` shows what it says now.")
    return 0


def version(arguments: argparse.Namespace) -> int:
    """Print the schema version of this program, and the ledger's."""
    known, found = len(database.MIGRATIONS), database.version_of(paths.ledger())
    if arguments.fits and found is not None and found > known:
        raise RefusedError(
            f"The ledger of this server has schema {found}, and this program knows only {known}: a"
            " newer Bedstone works on this server, and the older program isn't installed over it.",
            hint="Use the newer version of the project (`git pull`). If no newer one was ever here,"
            " the file is damaged: `bedstone ledger rebuild` on the server makes it again.",
        )
    if arguments.json:
        print(json.dumps({"program": known, "ledger": found}))
    else:
        print(f"program {known}, ledger {'unreadable' if found is None else found}")
    return 0
