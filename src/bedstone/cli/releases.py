"""List an app's releases, their outcomes, and those kept for a rollback: `bedstone releases`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedstone.apps import config
from bedstone.cli import main
from bedstone.core import age, paths, terminal
from bedstone.ledger import database
from bedstone.ledger import releases as history

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Sequence

    from bedstone.core.terminal import Paint
    from bedstone.ledger.releases import Entry, Operation

_DESCRIPTION = """\
The release that serves has a star. ROLLBACK says whether `bedstone rollback APP
RELEASE` can put a release into service again: image and settings of the last ten
are kept. BY is the operation that put it into service last, or
tried to; RESTORE POINT the backup made before it changed the schema.
"""
_HEADINGS = ("", "RELEASE", "STATE", "WHEN", "BY", "ROLLBACK", "RESTORE POINT")


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "releases",
        releases,
        summary="list an app's releases, the newest first, and which can serve again",
        description=_DESCRIPTION,
        examples=(
            "bedstone releases payments",
            "bedstone releases payments -n 50",
            "bedstone releases payments --json | jq '.[] | select(.can_serve_again) | .release'",
        ),
    )
    parser.add_argument("app", metavar="APP")
    parser.add_argument(
        "-n", "--lines", type=int, default=20, help="how many (default: 20; 0: all)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def releases(arguments: argparse.Namespace) -> int:
    """List an app's releases."""
    with database.opened() as connection:
        if arguments.app not in {*config.declared(), *history.known_apps(connection)}:
            config.load(arguments.app)
        rows = listing(connection, arguments.app, arguments.lines or -1)
    if arguments.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"{arguments.app} has no release yet.")
    else:
        print(_table(rows, terminal.Paint()))
    return 0


def listing(connection: sqlite3.Connection, app: str, limit: int = -1) -> list[dict[str, Any]]:
    """Return what is known of an app's releases, the newest first.

    Args:
        connection: of the ledger.
        app: the app.
        limit: how many, -1 for all.

    """
    serving = history.serving(connection, app)
    current = serving.release if serving else None
    kept = {entry.id for entry in history.kept(connection, app)}
    latest: dict[str, Operation] = {}
    points: dict[str, str] = {}
    for operation in reversed(history.operations(connection, app)):
        # A restart puts nothing into service.
        if operation.kind != "restart":
            latest[operation.release] = operation
        if operation.kind == "release" and operation.restore_point:
            points[operation.release] = operation.restore_point
    return [
        _row(entry, latest.get(entry.id), current)
        | {
            "can_serve_again": entry.id in kept
            and entry.id != current
            and (paths.release(app, entry.id) / "made.json").is_file(),
            "restore_point": points.get(entry.id),
        }
        for entry in history.entries(connection, app, limit=limit)
    ]


def _row(entry: Entry, operation: Operation | None, current: str | None) -> dict[str, Any]:
    return {
        "release": entry.id,
        "version": entry.version,
        "serves": entry.id == current,
        "state": entry.state,
        "started_at": entry.started_at,
        "finished_at": entry.finished_at,
        "image": entry.image,
        "failed_step": entry.failed_step,
        "error": entry.error,
        "operation": operation.kind if operation else None,
        "operation_state": operation.state if operation else None,
        "operation_at": operation.started_at if operation else None,
        "caller": operation.caller if operation else None,
    }


def _table(rows: Sequence[dict[str, Any]], paint: Paint) -> str:
    cells = [_HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join(
        [
            lines[0],
            *(paint(_colour(row), line) for row, line in zip(rows, lines[1:], strict=True)),
        ]
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    by = f"{row['operation'] or 'release'}"
    if row["operation"] == "rollback" and row["operation_state"] == "failed":
        by += " (failed)"
    if row["caller"]:
        by += f" by {row['caller']}"
    return (
        "*" if row["serves"] else "",
        row["release"],
        _state(row),
        age.short(row["operation_at"] or row["started_at"]),
        by,
        "yes" if row["can_serve_again"] else "-",
        row["restore_point"] or "-",
    )


def _state(row: dict[str, Any]) -> str:
    if row["serves"]:
        return "serves"
    if row["state"] == "failed":
        return f"failed at {row['failed_step']}"
    return "served" if row["state"] == "succeeded" else "is on its way"


def _colour(row: dict[str, Any]) -> str:
    if row["serves"]:
        return "green"
    if row["state"] == "failed":
        return "red"
    return "yellow" if row["state"] == "running" else "plain"
