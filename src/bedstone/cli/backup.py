"""Make backups: ``bedstone backup``."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.backup.create import Made, cause, create, remember, server_of
from bedstone.cli.main import add_command
from bedstone.core import disk
from bedstone.core.errors import BedstoneError
from bedstone.core.signals import terminable
from bedstone.status import growth as measurements
from bedstone.system import priority

if TYPE_CHECKING:
    import argparse

    from bedstone.cli.main import Subparsers

logger = logging.getLogger(__name__)


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "backup",
        _command,
        summary="back up the data of the apps now",
        description=(
            "Dumps the database, archives the media and copies the app's settings (no secrets)\n"
            "into DIRECTORY/APP/backup_YYYYMMDD_HHMMSS (UTC). The directory gets this name only\n"
            "when everything in it is on the disk and was read back. Afterwards the backups that\n"
            "have served their time are removed, never the newest good ones.\n\n"
            "Exit code 1: a backup failed; 3: refused, since another one is running or the disk\n"
            "would get too full. With several apps, all are tried."
        ),
        examples=(
            "bedstone backup",
            "bedstone backup payments --label before-import",
            "bedstone backup payments --directory /backups/pre-deployment",
        ),
    )
    parser.add_argument(
        "app", metavar="APP", nargs="*", help="the apps (default: all of this server)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="where to (default: the one in the settings); made if missing",
    )
    parser.add_argument("--label", help="what it is for, shown by `bedstone backups`")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _command(arguments: argparse.Namespace) -> int:
    settings = backup_settings.load()
    names = arguments.app or [entry.app for entry in settings.apps]
    for name in names:
        settings.app(name)
    priority.step_back()
    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    exit_code = 0
    for name in dict.fromkeys(names):
        begun = time.monotonic()
        try:
            with terminable():
                made = create(
                    settings,
                    name,
                    directory=arguments.directory.absolute() if arguments.directory else None,
                    label=arguments.label,
                )
        except (BedstoneError, OSError) as error:
            # One app's trouble, a full disk too, keeps no other from being backed up.
            text = error.text() if isinstance(error, BedstoneError) else f"{error}."
            code = error.exit_code if isinstance(error, BedstoneError) else 1
            logger.error("%s: %s", name, text)  # noqa: TRY400 - a person reads it
            failures.append({"app": name, "error": cause(error)})
            exit_code = 1 if exit_code == 1 else code
            continue
        seconds = time.monotonic() - begun
        results.append(_result(name, made, seconds))
        if not arguments.json:
            print(_sentence(name, made, seconds))
    if not arguments.app:
        # Once a night: what `bedstone status` says of the growth.
        remember(lambda: measurements.take(settings, server_of(settings)))
    if arguments.json:
        print(json.dumps({"backups": results, "failed": failures}, indent=2))
    elif not names:
        print("There is nothing to back up: no app on this server has data.")
    return exit_code


def _result(app: str, made: Made, seconds: float) -> dict[str, Any]:
    found = made.backup.manifest
    return {
        "app": app,
        "name": made.backup.name,
        "path": str(made.backup.path),
        "bytes": found.bytes if found else 0,
        "seconds": round(seconds, 1),
        "removed": list(made.removed),
    }


def _sentence(app: str, made: Made, seconds: float) -> str:
    found = made.backup.manifest
    parts = []
    if found and found.database:
        rows = sum(found.database.rows.values())
        parts.append(
            f"database {disk.human(found.database.bytes)}, {len(found.database.rows)} tables,"
            f" {rows} rows"
        )
    if found and found.media:
        parts.append(f"{found.media.files} media files")
    text = (
        f"{app}: {made.backup.path} is complete: {disk.human(found.bytes if found else 0)}"
        f" in {seconds:.1f} s ({'; '.join(parts) or 'settings alone'})"
    )
    if made.removed:
        text += f"\n{app}: removed after their time: {', '.join(made.removed)}"
    return text
