"""Switch an app's maintenance page on and off: `bedstone maintenance`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.apps import config, maintenance
from bedstone.cli import main
from bedstone.core.errors import BedstoneError
from bedstone.core.fields import NAME

if TYPE_CHECKING:
    import argparse


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "maintenance",
        run,
        summary="show visitors a page in place of an app, or let them in again",
        description="The app itself runs on, and can be released meanwhile; nginx answers 503\n"
        "with the page, at once and without a reload. Static files are served as ever.\n"
        "Without `on` or `off` it says which it is.",
        examples=(
            "bedstone maintenance payments                # is it on?",
            "bedstone maintenance payments on --message 'We move house. Back at 18:00 UTC.'",
            "bedstone maintenance payments on --page ~/closed.html",
            "bedstone maintenance payments off",
        ),
    )
    parser.add_argument("app", metavar="APP")
    parser.add_argument("state", metavar="on|off", nargs="?", choices=("on", "off"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--message", metavar="TEXT", help="what the page says")
    what.add_argument("--page", metavar="FILE", type=Path, help="an HTML file of your own instead")


def run(arguments: argparse.Namespace) -> int:
    """Turn maintenance on or off, or say which it is."""
    app = arguments.app
    if not NAME.match(app):
        config.load(app)
    given = arguments.message is not None or arguments.page is not None
    if given and arguments.state != "on":
        raise BedstoneError(
            "--message and --page go with `on`.",
            hint=f"`bedstone maintenance {app} on --message 'Back at 18:00 UTC.'`",
        )
    if arguments.state is None:
        config.load(app)
        _tell(app)
    elif arguments.state == "off":
        # Also for an app that is gone: its page would close the next of that name.
        if not maintenance.turn_off(app):
            config.load(app)
            print(f"Maintenance of {app} was off already.")
        else:
            print(f"Maintenance of {app} is off: visitors get to the app again.")
    else:
        _turn_on(app, arguments.message, arguments.page, given=given)
    return 0


def _turn_on(app: str, message: str | None, page: Path | None, *, given: bool) -> None:
    already = maintenance.is_on(app)
    if already and not given:
        _tell(app)
        return
    if page is not None:
        text = maintenance.read_page(page.expanduser())
    else:
        text = maintenance.page(message or maintenance.MESSAGE)
    maintenance.turn_on(app, text)
    if already:
        print(f"Maintenance of {app} was on already; visitors see the new page.")
    else:
        print(
            f"Maintenance of {app} is on: visitors see the page, the app runs on.\n"
            f"`bedstone maintenance {app} off` ends it."
        )


def _tell(app: str) -> None:
    begin = maintenance.since(app)
    if begin is None:
        print(f"Maintenance of {app} is off.")
        return
    print(
        f"Maintenance of {app} is on since {begin:%Y-%m-%d %H:%M} UTC; the page is"
        f" {maintenance.path(app)}.\n`bedstone maintenance {app} off` ends it."
    )
