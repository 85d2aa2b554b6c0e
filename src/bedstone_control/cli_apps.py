"""The commands of `python -m bedstone_control` that tell of an inventory, and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bedstone_control.checklist import evidence, report
from bedstone_control.checklist.items import ITEMS
from bedstone_control.inventory import offline
from bedstone_control.roles import environment_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no other name


def register(commands: Commands, directory: Callable[[str], Path]) -> None:
    """Add the commands.

    Args:
        commands: the parser's commands.
        directory: returns an inventory's directory by its name or path.

    """
    environment = commands.add_parser(
        "environment",
        help="show the variables that an app gets",
        description="Show each variable that the containers of an app get: its origin, whether it "
        "is a secret, whether migrations get another value, and its value. Reads settings and "
        "hosts of the inventory, never the vault: no secret is shown.",
    )
    environment.add_argument("name", help="name of the inventory, or its directory")
    environment.add_argument("app", nargs="?", help="an app of it (default: all)")
    environment.add_argument("--json", action="store_true", help="as JSON, not Markdown")
    environment.set_defaults(run=lambda arguments: _environment(arguments, directory))

    checklist = commands.add_parser(
        "checklist",
        help="answer the checklist before a deployment",
        description="Answer each item of a checklist with yes, no, or not yet, and how to change "
        "it: by the settings' checks, the servers' status and alarms, a look from outside and "
        "Django's check --deploy. Works before there is a server. Changes nothing. Exit code: 0 "
        "when each is yes, 1 when one is no, 2 when some are only not yet.",
    )
    checklist.add_argument("name", help="name of the inventory, or its directory")
    checklist.add_argument("--json", action="store_true", help="as JSON")
    checklist.add_argument(
        "--ports", default="1-65535", help="TCP ports that are tried from here (%(default)s)"
    )
    checklist.add_argument(
        "--vault-password-file", type=Path, help="when it is not the inventory's own"
    )
    checklist.set_defaults(run=lambda arguments: _checklist(arguments, directory))


def _checklist(arguments: argparse.Namespace, directory: Callable[[str], Path]) -> int:
    inventory = directory(arguments.name).resolve()
    options = evidence.vault_options(inventory, arguments.vault_password_file)
    found = evidence.collect(inventory, options, arguments.ports, evidence.run_program)
    answers = [(item, item.answer(found)) for item in ITEMS]
    if arguments.json:
        print(report.as_json(answers), end="")
    else:
        print("\n".join(report.lines(answers)))
    return report.exit_code(answers)


def _environment(arguments: argparse.Namespace, directory: Callable[[str], Path]) -> int:
    site = offline.site(directory(arguments.name))
    apps = [app for app in site.settings.apps if arguments.app in {None, app.name}]
    if not apps:
        names = ", ".join(app.name for app in site.settings.apps)
        raise ValueError(f"There is no app {arguments.app} in this inventory. It has {names}.")
    tables = {app.name: environment_table.table(site, app) for app in apps}
    if arguments.json:
        print(environment_table.as_json(tables), end="")
    else:
        print(
            "\n".join(environment_table.markdown(name, rows) for name, rows in tables.items()),
            end="",
        )
    return 0
