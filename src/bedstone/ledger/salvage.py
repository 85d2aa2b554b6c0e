"""Fill a new ledger: from the readable part of a damaged one, and from kept files."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.core import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

# A database's file, its log of changes, and the log's index.
SIDE_FILES = ("", "-wal", "-shm")


def copy_readable(connection: sqlite3.Connection, old: Path) -> list[str]:
    """Copy what can still be read of the old file, table by table; return what can't in words."""
    if not old.exists():
        return ["the old file: it is gone"]
    tables = [
        str(row["name"])
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
    ]
    # Parents before what refers to them.
    tables.sort(key=lambda name: name.endswith("_steps"))
    lost = []
    with tempfile.TemporaryDirectory(dir=paths.ensure_private(paths.runtime())) as name:
        # A copy: SQLite would write to the file that it reads, if only to apply its log.
        copy = Path(name) / "old.sqlite"
        for suffix in SIDE_FILES[:2]:
            with suppress(OSError):
                shutil.copyfile(
                    old.with_name(old.name + suffix), copy.with_name(copy.name + suffix)
                )
        for table in tables:
            try:
                _copy_table(connection, copy, table)
            except (sqlite3.Error, OSError) as error:
                lost.append(f"{_WORDS.get(table, table)} ({error})")
    return lost


_WORDS = {
    "releases": "how releases went, but for those that are kept",
    "apps": "what the old file says of what serves",
    "operations": "who released and rolled back, when, and how it went",
    "operation_steps": "the steps of releases and rollbacks",
    "backups": "failed attempts at backups",
    "verifications": "which backups were proved: none counts as proved until the next proof",
    "measurements": "how databases and disks have grown",
    "copies": "attempts to copy backups elsewhere",
    "arrivals": "what lies at the destinations: `bedstone destinations` looks again",
    "alarms": "which alarms were told: they are told again",
    "verification_marks": "which proofs of other hosts were read: they are read again",
}


def _copy_table(connection: sqlite3.Connection, copy: Path, table: str) -> None:
    columns = [str(row["name"]) for row in connection.execute(f"PRAGMA table_info({table})")]
    with closing(sqlite3.connect(copy)) as source:
        source.execute("PRAGMA query_only = ON")
        there = {str(row[1]) for row in source.execute(f"PRAGMA table_info({table})")}
        names = ", ".join(name for name in columns if name in there)
        if not names:
            raise sqlite3.DatabaseError("the table isn't there")
        marks = ", ".join("?" for name in columns if name in there)
        for row in source.execute(f"SELECT {names} FROM {table}"):  # noqa: S608 - our own names
            # A row that the schema doesn't take was damaged.
            with suppress(sqlite3.IntegrityError):
                connection.execute(
                    f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
                    row,
                )


def close_file(connection: sqlite3.Connection) -> None:
    """Bring all into the database's one file, which can then be moved."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode = DELETE")


def enter_serving(connection: sqlite3.Connection, app: str, release: str, slot: str) -> None:
    """Enter which release of an app serves, and in which slot."""
    connection.execute("INSERT OR REPLACE INTO apps VALUES (?, ?, ?)", (app, release, slot))


def enter_release(
    connection: sqlite3.Connection,
    app: str,
    release: str,
    *,
    image: str,
    version: str,
    record: Mapping[str, Any],
    started: str,
) -> None:
    """Enter a kept release and the operation that made it.

    Args:
        connection: to the new ledger.
        app: whose.
        release: its id.
        image: its image's id.
        version: as its id tells it, if the record doesn't.
        record: what was kept with it.
        started: when, as its id tells it.

    """
    connection.execute(
        "INSERT OR REPLACE INTO releases (app, id, version, image, fingerprint, declared, build,"
        " state, started_at, finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'succeeded', ?, ?)",
        (
            *(app, release, str(record.get("version", version)), image),
            *(str(record.get("fingerprint", "")), record.get("declared"), record.get("build")),
            *(str(record.get("started_at", started)), started),
        ),
    )
    connection.execute(
        "INSERT INTO operations (app, kind, release, state, started_at, finished_at)"
        " VALUES (?, 'release', ?, 'succeeded', ?, ?)",
        (app, release, started, started),
    )


def enter_backup(
    connection: sqlite3.Connection, app: str, path: Path, *, label: str | None, started: str
) -> None:
    """Enter a backup that isn't there yet, and which release it is the restore point of."""
    connection.execute(
        "UPDATE operations SET restore_point = ?"
        " WHERE app = ? AND release = ? AND restore_point IS NULL",
        (path.name, app, label),
    )
    if connection.execute("SELECT 1 FROM backups WHERE path = ?", (str(path),)).fetchone() is None:
        connection.execute(
            "INSERT INTO backups (app, path, label, state, started_at, finished_at)"
            " VALUES (?, ?, ?, 'succeeded', ?, ?)",
            (app, str(path), label, started, started),
        )
