"""Stop apps that are no longer declared; for 30 days they can be restored: `bedstone retire`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.cli import main
from bedstone.core.errors import RefusedError
from bedstone.ledger import database, releases
from bedstone.release import retire

if TYPE_CHECKING:
    import argparse


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "retire",
        run,
        summary="stop apps that the settings no longer have; lists them without a name",
        description="An app is declared when the settings have it. One that was taken out serves\n"
        "on until it is retired by its name, here or by `deploy.yml -e retire=NAME`: its\n"
        "containers, units and network go. For 30 days its images and releases stay, and the\n"
        "app comes back as it was when the settings have it again. Its database, uploads and\n"
        "backups are never removed by this program.",
        examples=("bedstone retire", "bedstone retire guestbook"),
    )
    parser.add_argument("app", metavar="APP", nargs="*", help="whom to retire")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only say which")
    how.add_argument(
        "--prune",
        action="store_true",
        help="only remove images and releases that are past their 30 days, as each hour",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Retire the named apps, and say which others the settings don't have."""
    if arguments.prune:
        return _prune(arguments)
    declared = config.declared()
    with database.opened() as connection:
        known = releases.known_apps(connection)
    undeclared = [name for name in known if name not in declared]
    wanted = list(dict.fromkeys(arguments.app))
    for app in wanted:
        if app in declared:
            raise RefusedError(
                f"{app} is declared: the settings have it.",
                hint=f"Take it out of `bedstone_apps` and run `site.yml -e retire={app}`.",
            )
        if app not in known:
            raise RefusedError(
                f"No app {app!r} serves on this server.",
                hint=f"Not in the settings are: {', '.join(undeclared) or 'none'}.",
            )
    pruned = []
    if not arguments.dry_run:
        for app in wanted:
            retire.retire(app)
        pruned = retire.prune()
    left = [app for app in undeclared if app not in wanted]
    if arguments.json:
        print(json.dumps({"retired": wanted, "undeclared": left, "pruned": pruned}))
        return 0
    done = "would be retired" if arguments.dry_run else "retired; its data is kept"
    lines = [f"{app}: {done}" for app in wanted]
    lines += [f"{app}: its images and releases were removed, its data is kept" for app in pruned]
    lines += [
        f"{app}: serves, and the settings don't have it; `bedstone retire {app}` stops it"
        for app in left
    ]
    lines += [
        f"{app}: retired {since:%Y-%m-%d}; its images and releases stay until"
        f" {retire.until(since):%Y-%m-%d}, its data until you remove it"
        for app, since in retire.retired().items()
        if app not in wanted
    ]
    print("\n".join(lines) or "Every app that runs here is declared.")
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    if arguments.app:
        raise RefusedError(
            "--prune goes without a name: it removes what is past its time.",
            hint=f"`bedstone retire {arguments.app[0]}` retires it.",
        )
    pruned = retire.prune()
    if arguments.json:
        print(json.dumps({"retired": [], "undeclared": [], "pruned": pruned}))
    for app in [] if arguments.json else pruned:
        print(f"{app}: its images and releases were removed, its data is kept")
    return 0
