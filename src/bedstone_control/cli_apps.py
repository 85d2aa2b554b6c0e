"""The commands of `python -m bedstone_control` that ask an inventory and its servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control.checklist import evidence, report
from bedstone_control.checklist.items import ITEMS
from bedstone_control.inventory import create, offline
from bedstone_control.load import plan as load_plan
from bedstone_control.load import report as load_report
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
    _add_load(
        commands.add_parser("load", help="send requests to an app at a fixed rate"), directory
    )


def _add_load(command: argparse.ArgumentParser, directory: Callable[[str], Path]) -> None:
    command.description = (
        "Send requests to an app of the inventory at a fixed rate, from this machine, and tell how "
        "it answered. A slow server does not lower the rate: a request's time counts from the "
        "moment at which it was due. Connects to the hosts of the group `proxy` alone, whatever "
        "DNS says, verifies certificates, follows no redirect and keeps no cookie. Statuses below "
        "400 are good. Exit code: 0 when all limits are kept."
    )
    command.add_argument("name", help="name of the inventory, or its directory")
    command.add_argument("app", nargs="?", help="an app of it, when there are several")
    command.add_argument(
        "--path",
        action="append",
        default=[],
        help="what is asked for; several are asked in turns (default: the health paths)",
    )
    command.add_argument("--rate", type=int, default=10, help="requests a second (%(default)s)")
    command.add_argument("--seconds", type=int, default=30, help="for how long (%(default)s)")
    command.add_argument("--data", help="a form to send by POST, or @FILE with it; it may write")
    command.add_argument(
        "--headers", type=Path, help="a file with headers, `Name: value`, such as Authorization"
    )
    command.add_argument(
        "--confirm", metavar="APP", help="the app's name: it may be one that people use"
    )
    command.add_argument(
        "--max-failed", type=int, default=0, help="how many may fail (%(default)s)"
    )
    command.add_argument("--p95-ms", type=int, help="the most that 95 %% of the answers may take")
    command.add_argument("--p99-ms", type=int, help="the same of 99 %%")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument(
        "--vault-password-file", type=Path, help="when it is not the inventory's own"
    )
    command.set_defaults(run=lambda arguments: _load(arguments, directory))


def _load(arguments: argparse.Namespace, directory: Callable[[str], Path]) -> int:
    inventory = directory(arguments.name).resolve()
    site = offline.site(inventory)
    given = arguments.headers
    planned = load_plan.plan(
        site,
        offline.reached(inventory),
        app=arguments.app,
        paths=arguments.path,
        rate=arguments.rate,
        seconds=arguments.seconds,
        data=load_plan.form_of(arguments.data),
        headers=load_plan.headers_of(given.read_text(encoding="utf-8")) if given else {},
    )
    if arguments.confirm != planned.app:
        raise ValueError(
            f"This sends {planned.words()}.\n"
            f"People may use that app. Repeat the command with --confirm {planned.app}."
        )
    # Only this command needs aiohttp, which takes time to import.
    from bedstone_control.load import send  # noqa: PLC0415

    held: Any = create.vault_content(inventory, arguments.vault_password_file)
    authorities = [
        *load_plan.authorities(held),
        *(Path(site.path(each)).read_text("utf-8") for each in site.settings.extra_ca_certificates),
    ]
    print(f"Sends {planned.words()}. Ctrl-C ends it with a report.", file=sys.stderr, flush=True)
    samples, seconds = send.send(planned, send.trusting(authorities))
    found = load_report.result(
        planned,
        samples,
        seconds,
        most_failed=arguments.max_failed,
        p95_ms=arguments.p95_ms,
        p99_ms=arguments.p99_ms,
    )
    if arguments.json:
        print(load_report.as_json(found), end="")
    else:
        print("\n".join(load_report.lines(found)))
    return 1 if found.exceeded else 0


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
