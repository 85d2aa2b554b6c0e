"""`bedstone retire`: stop apps that are no longer declared; their data stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bedstone import cli, config, history, ledger, retire

if TYPE_CHECKING:
    import argparse


def register(subparsers: cli.Subparsers) -> None:
    """Add the command."""
    parser = cli.add_command(
        subparsers,
        "retire",
        run,
        summary="stop the apps that are no longer declared, and forget them here",
        description="An app is declared when the settings have it; the playbooks call this after\n"
        "one was taken out. Its database, uploads and backups stay, its containers,\n"
        "units, network and images go.",
        examples=("bedstone retire --dry-run",),
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Retire the apps that the ledger knows but the settings don't."""
    with ledger.opened() as connection:
        declared = config.declared()
        apps = [name for name in history.known_apps(connection) if name not in declared]
    if not arguments.dry_run:
        for app in apps:
            retire.retire(app)
    if arguments.json:
        print(json.dumps({"retired": apps}))
        return 0
    for app in apps:
        print(f"{app}: {'would be retired' if arguments.dry_run else 'retired; its data is kept'}")
    if not apps:
        print("Every app that runs here is declared.")
    return 0
