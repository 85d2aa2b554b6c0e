"""Show the state of the server and its apps on one screen: `bedstone status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedstone.cli import main
from bedstone.core import terminal
from bedstone.core.errors import BedstoneError
from bedstone.status import gather, screen

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
For each app: the release that serves, its services as systemd sees them and as
they answer themselves, jobs, the last releases and how they ended, images and
backups; then the room on the disks and how PostgreSQL is (ages, vacuum, open
transactions, checksums, growth, archived WAL). Warnings and what needs attention (`bedstone
alarms`) stand at the end, with the command that mends each.

The exit code is 1 when a service that should run doesn't, or doesn't answer,
and when Docker doesn't.

With APP the other apps and the server's own parts are left out.

--json prints {"ok", "problems", "apps", "retired", "alarms", "certificates", "disks",
"database", "wal", "wal_verifications", "upgrades", "replication"}. An app has
"app", "ok", "problems", "error", "release", "version", "slot", "since", "domains",
"maintenance_since", "services", "jobs", "running", "operations" (the last
three), "images", "written" (where its containers have files that no setting
keeps), "backup", "copies" (at other destinations) and "verification".
The database has "version", "error", "databases", "wraparound", "checksums",
"idle_in_transaction", "tables" (the largest, and those that autovacuum doesn't
keep up with), "disks" (their trends) and "problems"; the WAL has "archiving" and
"destinations". Times are ISO 8601 in UTC, sizes are bytes; what there is none of,
or couldn't be found out in
time, is null.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "status",
        status,
        summary="show the apps: what serves, whether it is healthy, and what happened last",
        description=_DESCRIPTION,
        examples=(
            "bedstone status",
            "bedstone status payments",
            "bedstone status --json | jq '.problems'",
            "bedstone status --json | jq '.apps[] | select(.ok | not) | .app'",
        ),
    )
    parser.add_argument("app", nargs="?", help="this app alone; its problems alone count")
    parser.add_argument("--json", action="store_true", help="as JSON")


def status(arguments: argparse.Namespace) -> int:
    """Show the apps and return 0 when all of them run."""
    picture = gather.gather()
    if arguments.app is not None:
        picture = _of_app(picture, arguments.app)
    if arguments.json:
        print(json.dumps(picture))
    else:
        print(screen.render(picture, terminal.Paint()))
    return 0 if picture["ok"] else 1


def _of_app(picture: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the picture has of one app.

    Raises:
        BedstoneError: no such app is declared.

    """
    apps = [app for app in picture["apps"] if app["app"] == name]
    if not apps:
        known = ", ".join(app["app"] for app in picture["apps"]) or "none"
        raise BedstoneError(
            f"No app {name} is declared on this server.", hint=f"There are: {known}."
        )
    return {
        "ok": apps[0]["ok"],
        "problems": [f"{name}: {problem}" for problem in apps[0]["problems"]],
        "apps": apps,
        "disks": [],
        "database": None,
    }
