"""Show logs and run commands in an app's containers: `bedstone logs`, `exec`, `run`, `console`."""

from __future__ import annotations

import secrets
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.apps import config, containers, current, jobs
from bedstone.cli import main
from bedstone.core import names
from bedstone.core.errors import BedstoneError
from bedstone.system import docker, systemd
from bedstone.system.docker import Docker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bedstone.apps.current import Current


def register(subparsers: main.Subparsers) -> None:
    """Add the commands."""
    parser = main.add_command(
        subparsers,
        "logs",
        logs,
        summary="show what an app prints, from the journal",
        examples=(
            "bedstone logs payments              # the last 100 lines of all services",
            "bedstone logs payments web -f       # go on as new ones come",
            "bedstone logs payments worker -n 1000 | grep ERROR",
            "bedstone logs payments clearsessions   # of a job",
        ),
    )
    parser.add_argument("app", metavar="APP")
    parser.set_defaults(late="service")
    parser.add_argument(
        "service", metavar="SERVICE", nargs="?", help="or a job; all services by default"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on as new lines come")
    parser.add_argument("-n", "--lines", type=int, default=100, help="how many (default: 100)")

    parser = main.add_command(
        subparsers,
        "exec",
        execute,
        summary="run a command inside a service's running container",
        examples=(
            "bedstone exec payments -- ps aux",
            "bedstone exec payments worker -- python manage.py shell",
        ),
    )
    parser.set_defaults(takes_rest=True)
    parser.usage = "bedstone exec [-h] APP [SERVICE] -- COMMAND ..."
    parser.add_argument("app", metavar="APP")
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="the first by default")

    parser = main.add_command(
        subparsers,
        "run",
        run,
        summary="run a command in a container of its own, as the serving release would",
        description="Image, environment, network and mounts are those of the release that serves;"
        "\nthe container is removed afterwards.",
        examples=(
            "bedstone run payments -- python manage.py createsuperuser",
            "bedstone run payments -- python manage.py dbshell < fix.sql",
        ),
    )
    parser.set_defaults(takes_rest=True)
    parser.usage = "bedstone run [-h] APP -- COMMAND ..."
    parser.add_argument("app", metavar="APP")

    parser = main.add_command(
        subparsers,
        "console",
        console,
        summary="open the app's console, in a container of its own",
        description="The console is `commands.console` of the app in the settings; without one it\n"
        "is Django's shell for apps that run Django.",
        examples=(
            "bedstone console payments",
            "bedstone console payments < report.py    # not at a terminal: reads what it gets",
        ),
    )
    parser.add_argument("app", metavar="APP")


def logs(arguments: argparse.Namespace) -> int:
    """Become journalctl for an app's units."""
    found = current.load(arguments.app)
    name = arguments.service
    if name is not None and name not in found.app.services and name in jobs.declared(arguments.app):
        units = [names.job_unit(arguments.app, name)]
    else:
        services = [_service(found, name)] if name else found.app.services
        # All slots: the log of the previous release is often the one that is needed.
        units = [names.slot_units(arguments.app, service) for service in services]
    systemd.become_journal(units, lines=arguments.lines, follow=arguments.follow)


def execute(arguments: argparse.Namespace) -> int:
    """Become `docker exec` for a service's container."""
    command = _command(arguments)
    found = current.load(arguments.app)
    service = _service(found, arguments.service) if arguments.service else None
    key = next(key for key in found.slot_keys() if service in {None, key.partition("@")[0]})
    name, _, slot = key.partition("@")
    container = names.slot_container(arguments.app, name, slot)
    docker.become_exec(container, command, terminal=_at_terminal())


def run(arguments: argparse.Namespace) -> int:
    """Run a command in a container of its own and return its exit code."""
    command = _command(arguments)
    return _attached(current.load(arguments.app), command, "run")


def console(arguments: argparse.Namespace) -> int:
    """Open an app's console and return its exit code."""
    found = current.load(arguments.app)
    command = found.app.commands.console
    if command is None:
        # A release made before the console was declared has the command, too.
        with suppress(BedstoneError):
            command = config.load(arguments.app).commands.console
    if command is None:
        raise BedstoneError(
            f"{arguments.app} has no console.",
            hint="Declare the command under `commands` of the app in the settings, for instance"
            " `console: python manage.py shell`, and run `deploy.yml`. Any other command:"
            f" `bedstone run {arguments.app} -- COMMAND`.",
        )
    return _attached(found, command, "console")


def _attached(found: Current, command: Sequence[str], kind: str) -> int:
    wanted = containers.for_command(
        found.app,
        found.release,
        found.made,
        found.environment(),
        tuple(command),
        kind=f"{kind}-{secrets.token_hex(3)}",
    )
    return Docker().run_attached(wanted, terminal=_at_terminal())


def _command(arguments: argparse.Namespace) -> list[str]:
    if not arguments.rest:
        raise BedstoneError(
            "There is no command to run.",
            hint="It goes after two dashes: `bedstone run APP -- python manage.py shell`.",
        )
    return list(arguments.rest)


def _service(found: Current, name: str) -> str:
    if name not in found.app.services:
        raise BedstoneError(
            f"{found.app.name} has no service {name!r}; it has {', '.join(found.app.services)}."
        )
    return name


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
