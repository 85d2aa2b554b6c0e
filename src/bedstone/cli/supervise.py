"""Run a slot's container for its systemd unit: `bedstone supervise`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bedstone.apps.supervisor import supervise
from bedstone.cli import main
from bedstone.core.errors import ConfigError

if TYPE_CHECKING:
    import argparse

# sysexits.h's EX_CONFIG; the units don't start again after it (systemd's
# RestartPreventExitStatus), because trying again would change nothing.
EXIT_CONFIG = 78


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "supervise",
        run,
        summary="run one slot's container in the foreground (for systemd)",
        description="The units `bedstone-APP-SERVICE@SLOT` run it; a person seldom needs to.",
        examples=("systemctl restart bedstone-payments-web@blue   # the usual way",),
    )
    parser.add_argument("app", metavar="APP")
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("slot", metavar="SLOT", help="blue, green, or a worker's number")


def run(arguments: argparse.Namespace) -> int:
    """Supervise a slot until its container ends."""
    try:
        return supervise(arguments.app, arguments.service, arguments.slot)
    except ConfigError as error:
        print(f"bedstone: {error.text()}", file=sys.stderr)
        return EXIT_CONFIG
