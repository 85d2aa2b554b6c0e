"""List the backups that can be restored, with their verifications: ``bedstone backups``."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.backup import catalog, manifest
from bedstone.backup import kept as kept_backups
from bedstone.backup import settings as backup_settings
from bedstone.cli.main import add_command
from bedstone.core import disk
from bedstone.core.errors import BedstoneError
from bedstone.ledger import backups, database, verifications

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import Settings
    from bedstone.cli.main import Subparsers
    from bedstone.ledger.verifications import Verification

_HEADINGS = ("APP", "NAME", "AGE", "SIZE", "DATABASE", "LABEL", "VERIFIED", "STATE")


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "backups",
        _command,
        summary="list the backups, and check them",
        description=(
            "State is `complete` (all files there in their full size), `intact` (with --check:\n"
            "every byte is as it was written), or what is wrong. Exit code 1: with --check, one\n"
            "of them is damaged.\n\n"
            "VERIFIED says how long ago it was restored into a throwaway cluster and held what it\n"
            "should (`bedstone verify`), or that this FAILED.\n\n"
            "With --verbose, the last column says why retention keeps it: daily, weekly, monthly\n"
            "(the newest of a period in UTC), recent (of the last two days), newest, verified, a\n"
            "restore point of a release that is kept. One without a reason goes after the next\n"
            "backup."
        ),
        examples=(
            "bedstone backups",
            "bedstone backups payments --check",
            "bedstone backups payments --verbose",
            "bedstone backups --json | jq '.[] | {name, kept}'",
        ),
    )
    parser.add_argument("app", metavar="APP", nargs="?", help="one app (default: all)")
    parser.add_argument(
        "--directory", type=Path, help="where they are (default: the one in the settings)"
    )
    parser.add_argument("--check", action="store_true", help="read every byte and compare")
    parser.add_argument("--verbose", "-v", action="store_true", help="say why each one is kept")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def listing(
    settings: Settings, app: str | None, *, directory: Path | None = None, check: bool = False
) -> list[dict[str, Any]]:
    """Return what is known of each backup, by app and newest first.

    Args:
        settings: this server's.
        app: one app, or None for all that have a directory.
        directory: where the backups are, if elsewhere than in the settings.
        check: read every byte of every file.

    """
    home = directory or settings.directory
    apps = [app] if app else _apps(settings, home)
    entries = []
    for name in apps:
        found = catalog.backups(home / name)
        kept = _kept(settings, name, found)
        # What lies elsewhere may have the same name, and isn't what was verified.
        attempts = _verifications(name) if home == settings.directory else []
        entries += [
            {
                **_entry(name, backup, check=check),
                **_verified(backup, attempts),
                "kept": kept.get(backup.name),
            }
            for backup in found
        ]
    return entries


def ago(age: timedelta) -> str:
    """Return an age in its largest unit ("3 h", "12 days")."""
    seconds = age.total_seconds()
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        # From two days on in days: "1 days" says too little about a nightly backup.
        if seconds >= (2 * length if unit == "days" else length):
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _kept(settings: Settings, app: str, found: Sequence[Backup]) -> dict[str, list[str]]:
    """Return why backups are kept; nothing when the ledger can't be read."""
    try:
        reasons = kept_backups.reasons(settings, app, found)
    except (BedstoneError, sqlite3.Error):
        return {}
    return {name: list(why) for name, why in reasons.items()}


def _verifications(app: str) -> list[Verification]:
    try:
        with database.opened() as connection:
            return verifications.of_app(connection, app)
    except (BedstoneError, sqlite3.Error):
        return []


def _verified(backup: Backup, attempts: list[Verification]) -> dict[str, Any]:
    last = None
    if backup.manifest is not None:
        parts = set(manifest.kinds(backup.manifest))
        last = verifications.of_backup(attempts, backup.name, parts) or _elsewhere(
            attempts, backup.name, parts
        )
    succeeded = last is not None and last.state == "succeeded"
    return {
        "verification": last.state if last else None,
        "verified_at": last.finished_at if last and succeeded else None,
        "verification_error": last.error if last else None,
    }


def _elsewhere(attempts: list[Verification], name: str, parts: set[str]) -> Verification | None:
    """Return another host's verification of a backup's copy: it was sent byte by byte.

    That the copy is damaged says nothing about what lies here.
    """
    places = {attempt.destination for attempt in attempts if attempt.host is not None}
    found = [verifications.of_backup(attempts, name, parts, place) for place in sorted(places)]
    proved = [last for last in found if last is not None and last.state == "succeeded"]
    return max(proved, key=lambda last: last.finished_at, default=None)


def _apps(settings: Settings, home: Path) -> list[str]:
    # An app that is gone from the settings may still have backups.
    # What begins with a dot is no app's: the repository of uploads, for instance.
    present = [
        entry.name
        for entry in (home.iterdir() if home.is_dir() else ())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    return sorted({*present, *(entry.app for entry in settings.apps)})


def _entry(app: str, backup: Backup, *, check: bool) -> dict[str, Any]:
    found = backup.manifest
    problem = backup.problem
    state = "complete" if backup.good else "damaged" if found else "not a backup"
    if check and found is not None and backup.good:
        problem = next(manifest.damages(backup.path, found, contents=True), None)
        state = "damaged" if problem else "intact"
    age = backup.age
    return {
        "app": app,
        "name": backup.name,
        "path": str(backup.path),
        "state": state,
        "problem": problem,
        "started": found.started.isoformat() if found else None,
        "age_seconds": int(age.total_seconds()) if age else None,
        "age": ago(age) if age else None,
        "bytes": found.bytes if found else None,
        "label": found.label if found else None,
        "restore_point": found.restore_point if found else None,
        "release": found.release if found else None,
        "host": found.host if found else None,
        "database": found.database.name if found and found.database else None,
        "database_bytes": found.database.bytes if found and found.database else None,
        "server_version": found.database.server_version if found and found.database else None,
        "media_files": found.media.files if found and found.media else None,
    }


def _command(arguments: argparse.Namespace) -> int:
    settings = backup_settings.load()
    entries = listing(
        settings,
        arguments.app,
        directory=arguments.directory.absolute() if arguments.directory else None,
        check=arguments.check,
    )
    if arguments.json:
        print(json.dumps(entries, indent=2))
    else:
        print(_table(entries, verbose=arguments.verbose) if entries else "There are no backups.")
        apps = [arguments.app] if arguments.app else [entry.app for entry in settings.apps]
        for line in (*_unproved(entries), *_warnings(apps)):
            print(line)
    damaged = arguments.check and any(entry["state"] == "damaged" for entry in entries)
    return 1 if damaged else 0


def _warnings(apps: Iterable[str]) -> list[str]:
    lines = []
    for app in apps:
        if failure := backups.last_failure(app):
            moment, error = failure
            lines.append(f"{app}: THE LAST BACKUP FAILED, {moment:%Y-%m-%d %H:%M:%S} UTC: {error}")
    return lines


def _unproved(entries: Iterable[dict[str, Any]]) -> list[str]:
    return [
        f"{entry['app']}: THE VERIFICATION of {entry['name']} FAILED:"
        f" {str(entry['verification_error']).splitlines()[0]}"
        for entry in entries
        if entry["verification"] == "failed"
    ]


def _table(entries: Sequence[dict[str, Any]], *, verbose: bool = False) -> str:
    rows: list[tuple[str, ...]] = [(*_HEADINGS, *(("KEPT",) if verbose else ()))]
    rows += [
        (
            entry["app"],
            entry["name"],
            entry["age"] or "-",
            disk.human(entry["bytes"]) if entry["bytes"] is not None else "-",
            _database(entry),
            _label(entry),
            _mark(entry),
            f"{entry['state']}: {entry['problem']}" if entry["problem"] else entry["state"],
            *((_why(entry),) if verbose else ()),
        )
        for entry in entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _label(entry: dict[str, Any]) -> str:
    if entry["restore_point"]:
        return f"restore point {entry['label'] or ''}".rstrip()
    return entry["label"] or "-"


def _mark(entry: dict[str, Any]) -> str:
    if entry["verified_at"]:
        moment = datetime.fromisoformat(entry["verified_at"])
        return f"{ago(datetime.now(UTC) - moment)} ago"
    if entry["verification"] is None:
        return "-"
    return "FAILED"


def _why(entry: dict[str, Any]) -> str:
    if entry["kept"] is None:
        return "-"
    return ", ".join(entry["kept"]) or "goes after the next backup"


def _database(entry: dict[str, Any]) -> str:
    if entry["database"] is None:
        return "-"
    return f"{entry['database']} ({disk.human(entry['database_bytes'])})"
