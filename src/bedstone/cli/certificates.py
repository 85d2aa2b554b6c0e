"""Show and renew the certificates by ACME: `bedstone certificates`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bedstone.acme import config, state
from bedstone.acme.renew import renew
from bedstone.cli import main
from bedstone.core import age, terminal
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Without `renew` it shows each certificate: until when it is valid, when it is renewed, and
why it couldn't be got.

`renew` gets those that are due: a third of the life is left (half, of a life below ten days),
the authority asks for it, or domains, authority or profile changed. Before the authority is
asked, each domain has to lead to this server. bedstone-certificates.timer does so each hour;
after failures at the authority it pauses for an hour, then twice as long each time.

Exit code 1: a certificate couldn't be got. The site serves on with the one it has.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "certificates",
        run,
        summary="show the certificates by ACME, and get those that are due",
        description=_DESCRIPTION,
        examples=(
            "bedstone certificates",
            "bedstone certificates renew             # those that are due, also after failures",
            "bedstone certificates renew payments --force",
        ),
    )
    parser.add_argument("action", metavar="renew", nargs="?", choices=("renew",))
    parser.add_argument("apps", metavar="APP", nargs="*", help="all when none is named")
    parser.add_argument("--force", action="store_true", help="also one that isn't due")
    parser.add_argument("--scheduled", action="store_true", help="keep the pause after failures")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the certificates, or get those that are due."""
    settings = config.load()
    if settings is None:
        raise BedstoneError(
            "This server gets no certificates by ACME.",
            hint="`bedstone_acme` in the settings: see docs/certificates.md.",
        )
    if arguments.action is None:
        return _show(as_json=arguments.json)
    known = {wanted.name for wanted in settings.certificates}
    if unknown := sorted(set(arguments.apps) - known):
        raise BedstoneError(
            f"No certificate by ACME is declared for {', '.join(unknown)}.",
            hint=f"There are: {', '.join(sorted(known)) or 'none'}.",
        )
    if arguments.force and not arguments.apps:
        raise BedstoneError("--force needs the apps' names: authorities limit orders.")
    results = renew(
        settings,
        names=arguments.apps,
        force=arguments.force,
        by_hand=not arguments.scheduled,
    )
    if arguments.json:
        print(json.dumps([result.as_json() for result in results], indent=2))
    else:
        for result in results:
            well = "has a new certificate" if result.changed else "nothing to do"
            print(f"{result.name}: {result.problem or well}")
    return 1 if any(result.problem for result in results) else 0


def _show(*, as_json: bool) -> int:
    found = state.gather()
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=2))
        return 1 if any(each.failure for each in found) else 0
    paint = terminal.Paint()
    for each in found:
        print(f"{each.name}: {', '.join(each.domains)}")
        if each.certificate and each.renew_at:
            end, renewal = each.certificate.end.isoformat(), each.renew_at.isoformat()
            print(f"  valid until {age.short(end)}, renewed {age.until(renewal)}")
        if each.failure:
            print(paint("red", f"  {each.failure.reason}"))
        elif each.certificate is None:
            print("  not asked for yet")
    return 1 if any(each.failure for each in found) else 0
