"""The ledger: what has happened on this server, in SQLite.

Every change to the schema is a new entry of :data:`MIGRATIONS`; entries that
have been released are never edited.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from bedstone import paths
from bedstone.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE releases (
        app TEXT NOT NULL,
        id TEXT NOT NULL,
        version TEXT NOT NULL,
        image TEXT,
        fingerprint TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
        started_at TEXT NOT NULL,
        finished_at TEXT,
        failed_step TEXT,
        error TEXT,
        PRIMARY KEY (app, id)
    ) STRICT;
    CREATE TABLE steps (
        app TEXT NOT NULL,
        release TEXT NOT NULL,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'undone')),
        seconds REAL,
        PRIMARY KEY (app, release, position),
        FOREIGN KEY (app, release) REFERENCES releases (app, id) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE apps (
        app TEXT PRIMARY KEY,
        release TEXT NOT NULL,
        slot TEXT NOT NULL
    ) STRICT;
    CREATE TABLE networks (
        app TEXT PRIMARY KEY,
        subnet TEXT NOT NULL
    ) STRICT;
    CREATE TABLE addresses (
        app TEXT NOT NULL,
        service TEXT NOT NULL,
        slot TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (app, service, slot),
        UNIQUE (app, number)
    ) STRICT;
    """,
    """
    CREATE TABLE backups (
        id INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        path TEXT,
        label TEXT,
        state TEXT NOT NULL CHECK (state IN ('succeeded', 'failed')),
        started_at TEXT NOT NULL,
        finished_at TEXT NOT NULL,
        bytes INTEGER,
        error TEXT
    ) STRICT;
    CREATE INDEX backups_by_time ON backups (app, started_at);
    """,
    # An operation moves traffic: the release of something new, a rollback, a restart. Its steps
    # were a release's before.
    """
    CREATE TABLE operations (
        id INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('release', 'rollback', 'restart')),
        release TEXT NOT NULL,
        previous TEXT,
        state TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
        caller TEXT,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        failed_step TEXT,
        error TEXT,
        hint TEXT,
        details TEXT,
        restore_point TEXT
    ) STRICT;
    CREATE INDEX operations_by_app ON operations (app, id);
    CREATE TABLE operation_steps (
        operation INTEGER NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'undone')),
        seconds REAL,
        said TEXT,
        PRIMARY KEY (operation, position)
    ) STRICT;
    INSERT INTO operations
        (app, kind, release, state, started_at, finished_at, failed_step, error)
        SELECT app, 'release', id, state, started_at, finished_at, failed_step, error
        FROM releases ORDER BY started_at;
    INSERT INTO operation_steps (operation, position, name, state, seconds)
        SELECT operations.id, steps.position, steps.name, steps.state, steps.seconds
        FROM steps JOIN operations
        ON operations.app = steps.app AND operations.release = steps.release;
    DROP TABLE steps;
    ALTER TABLE releases ADD COLUMN declared TEXT;
    ALTER TABLE releases ADD COLUMN build TEXT;
    """,
    # Of each part of a backup (its dump, its media): was it restored, and did it hold what it
    # should? "prevented" is neither: there was no room, no time, or no backup.
    """
    CREATE TABLE verifications (
        id INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        kind TEXT NOT NULL,
        backup TEXT,
        destination TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('succeeded', 'failed', 'prevented')),
        started_at TEXT NOT NULL,
        finished_at TEXT NOT NULL,
        seconds REAL NOT NULL,
        rows INTEGER,
        bytes INTEGER,
        error TEXT
    ) STRICT;
    CREATE INDEX verifications_by_app ON verifications (app, kind, id);
    """,
    # Once a night: how large a database is ("database"), how much is free on a disk ("free").
    """
    CREATE TABLE measurements (
        kind TEXT NOT NULL CHECK (kind IN ('database', 'free')),
        name TEXT NOT NULL,
        taken_at TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (kind, name, taken_at)
    ) STRICT;
    """,
    # Each attempt to copy a backup to a destination; what was last seen at each destination
    # ("checked_at" is when somebody last could look); what people were told is wrong.
    """
    CREATE TABLE copies (
        id INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        kind TEXT NOT NULL,
        backup TEXT,
        destination TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('succeeded', 'failed')),
        snapshot TEXT,
        started_at TEXT NOT NULL,
        finished_at TEXT NOT NULL,
        bytes INTEGER,
        error TEXT
    ) STRICT;
    CREATE INDEX copies_by_app ON copies (app, kind, destination, id);
    CREATE TABLE arrivals (
        destination TEXT NOT NULL,
        app TEXT NOT NULL,
        kind TEXT NOT NULL,
        newest TEXT,
        newest_at TEXT,
        bytes INTEGER,
        checked_at TEXT,
        problem TEXT,
        problem_since TEXT,
        PRIMARY KEY (destination, app, kind)
    ) STRICT;
    CREATE TABLE alarms (
        name TEXT PRIMARY KEY,
        since TEXT NOT NULL,
        told_at TEXT
    ) STRICT;
    """,
    # Backups may be proved by another host, which leaves at the destinations what came out.
    """
    ALTER TABLE verifications ADD COLUMN host TEXT;
    CREATE TABLE verification_marks (
        snapshot TEXT PRIMARY KEY,
        read_at TEXT NOT NULL
    ) STRICT;
    """,
)


def connect() -> sqlite3.Connection:
    """Open the ledger, making or updating its schema first.

    The connection is in autocommit mode: wrap what belongs together in
    :func:`transaction`.

    Raises:
        BedstoneError: the file can't be opened, or a newer program wrote it.

    """
    path = paths.ledger()
    paths.ensure_private(path.parent)
    try:
        connection = sqlite3.connect(path, timeout=10, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise BedstoneError(
            f"The ledger {path} can't be opened: {error}.",
            hint=f"Is the disk full? `df -h {path.parent}` shows it.",
        ) from error
    return connection


@contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """Open the ledger for a block."""
    with closing(connect()) as connection:
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make all writes of a block durable together, or none of them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection) -> None:
    if _version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        # Another process may have migrated while this one waited for the lock.
        version = _version(connection)
        if version > len(MIGRATIONS):
            raise BedstoneError(
                f"The ledger has schema {version}, but this program knows only"
                f" {len(MIGRATIONS)}: a newer bedstone wrote it.",
                hint="Run `site.yml` of the newer version, which installs its program.",
            )
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
