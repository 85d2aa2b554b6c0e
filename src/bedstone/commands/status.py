"""`bedstone status`: one screen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone import cli, config, current, history, ledger, slots
from bedstone.errors import BedstoneError
from bedstone.systemd import Systemd

if TYPE_CHECKING:
    import argparse
    import sqlite3

    from bedstone.history import Entry

_LAST_RELEASES = 3
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


def register(subparsers: cli.Subparsers) -> None:
    """Add the command."""
    parser = cli.add_command(
        subparsers,
        "status",
        status,
        summary="show the apps, what serves, and how the last releases went",
        description="The exit code is 1 when a service that should run doesn't.",
        examples=("bedstone status", "bedstone status --json | jq '.apps[].ok'"),
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def status(arguments: argparse.Namespace) -> int:
    """Show the apps and return 0 when all of them run."""
    systemd = Systemd()
    with ledger.opened() as connection:
        names = sorted({*config.declared(), *history.known_apps(connection)})
        apps = [_app(name, connection, systemd) for name in names]
    if arguments.json:
        print(json.dumps({"apps": apps}))
    elif not apps:
        print("No app is declared on this server.")
    else:
        print("\n\n".join(_screen(app) for app in apps))
    return 0 if all(app["ok"] for app in apps) else 1


def _app(name: str, connection: sqlite3.Connection, systemd: Systemd) -> dict[str, Any]:
    entries = history.entries(connection, name, limit=_LAST_RELEASES)
    result: dict[str, Any] = {
        "app": name,
        "release": None,
        "slot": None,
        "domains": [],
        "since": None,
        "services": [],
        "ok": False,
        "last": [_release(entry) for entry in entries],
    }
    if history.serving(connection, name) is None:
        return result
    try:
        found = current.load(name)
    except BedstoneError as error:
        return {**result, "error": error.message}
    units = {key: slots.unit(name, key) for key in found.slot_keys()}
    states = systemd.states(list(units.values()))
    services = []
    for key, unit in units.items():
        state = states.get(unit)
        services.append(
            {
                "service": key,
                "unit": unit,
                "state": "unknown" if state is None else f"{state.active} ({state.sub})",
                "ok": state is not None and state.is_active,
            }
        )
    entry = history.get(connection, name, found.release)
    return {
        **result,
        "release": found.release,
        "slot": found.slot,
        "domains": list(found.app.domains),
        "since": entry.finished_at if entry else None,
        "services": services,
        "ok": all(service["ok"] for service in services),
    }


def _release(entry: Entry) -> dict[str, Any]:
    return {
        "release": entry.id,
        "state": entry.state,
        "failed_step": entry.failed_step,
        "error": entry.error,
    }


def _screen(app: dict[str, Any]) -> str:
    if app["release"] is None:
        lines = [f"{app['app']}: {app.get('error') or 'not released yet'}"]
    else:
        age = f", for {_age(app['since'])}" if app["since"] else ""
        lines = [f"{app['app']}: release {app['release']}{age}"]
    lines += [f"  https://{domain}/" for domain in app["domains"]]
    for service in app["services"]:
        mark = "up  " if service["ok"] else "DOWN"
        lines.append(f"  {mark} {service['service']:<16} {service['state']}")
    for entry in app["last"]:
        if entry["state"] == "failed":
            lines.append(f"  {entry['release']} failed at {entry['failed_step']}: {entry['error']}")
        elif entry["state"] == "running":
            lines.append(f"  {entry['release']} is on its way")
    return "\n".join(lines)


def _age(moment: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length in _UNITS:
        number = int(seconds // length)
        if number:
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "less than a minute"
