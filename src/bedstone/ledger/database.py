"""Open the ledger: the SQLite database with the history of this server.

Every change to the schema is a new entry of :data:`MIGRATIONS`; entries that
have been released are never edited.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from bedstone.core import paths
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MENDED = "The apps serve on; `bedstone ledger rebuild` makes it again from the kept files."

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
    # should? "prevented" is neither: there was no disk space, no time, or no backup.
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
    # ("checked_at" is the time of the last successful check); the alarms that were reported.
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
    # Backups may be verified by another host, which leaves its results at the destinations.
    """
    ALTER TABLE verifications ADD COLUMN host TEXT;
    CREATE TABLE verification_marks (
        snapshot TEXT PRIMARY KEY,
        read_at TEXT NOT NULL
    ) STRICT;
    """,
    # What a container needs to start is in the app's files: network.json.
    """
    DROP TABLE networks;
    DROP TABLE addresses;
    """,
)


class UnreadableError(BedstoneError):
    """The ledger is damaged, gone, or of a newer program. What serves doesn't depend on it."""


class UnwritableError(BedstoneError):
    """The disk of the ledger is full or fails, or another process has held it for too long."""


# Set by commands that only look, and by those that put right what serves: what connects in place
# of an unreadable ledger, to one that was made of the kept files.
stand_in: Callable[[UnreadableError], sqlite3.Connection] | None = None
# Once a process is enough: damage that comes later shows itself in what is read.
_sound: set[Path] = set()


# What the disk or another process does to a statement, unlike a mistake of the statement.
_OUTSIDE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
}
_PRIMARY_CODE = 0xFF


class _Connection(sqlite3.Connection):
    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE not in _OUTSIDE:
                raise
            raise UnwritableError(
                f"The ledger can't be written: {error}.",
                hint=f"Is the disk full? `df -h {paths.ledger().parent}` shows it.",
            ) from error


def connect() -> sqlite3.Connection:
    """Open the ledger, making or updating its schema first.

    The connection is in autocommit mode: wrap what belongs together in
    :func:`transaction`.

    Raises:
        UnreadableError: the file can't be opened, or a newer program wrote it.

    """
    try:
        return connect_file(paths.ledger())
    except UnreadableError as error:
        if stand_in is None or paths.origin() is not None:
            raise
        return stand_in(error)


def connect_file(path: Path) -> sqlite3.Connection:
    """Open a ledger by its path; see :func:`connect`."""
    _require_present(path)
    paths.ensure_private(path.parent)
    try:
        connection = sqlite3.connect(path, timeout=10, isolation_level=None, factory=_Connection)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection)
            _require_sound(connection, path)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, UnwritableError) as error:
        raise UnreadableError(
            f"The ledger {path} can't be opened: {error.__cause__ or error}.",
            hint=f"{_MENDED} Is the disk full? `df -h {path.parent}` shows it.",
        ) from error
    return connection


def problem() -> str | None:
    """Return in words why the ledger can't be read and what mends it, or None when it can."""
    try:
        connect_file(paths.ledger()).close()
    except UnreadableError as error:
        return f"{error.message} {error.hint}"
    return None


def version_of(path: Path) -> int | None:
    """Return the schema that a ledger says it has; None when it can't be read."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return schema_version(connection)
    except sqlite3.Error:
        return None


def _require_present(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        return
    if paths.origin() is None and path == paths.ledger() and (apps := paths.apps_that_serve()):
        # A new one would say that no release was ever made here.
        raise UnreadableError(
            f"The ledger {path} is {'empty' if path.exists() else 'missing'}, although"
            f" {', '.join(apps)} {'serves' if len(apps) == 1 else 'serve'} on this server.",
            hint=_MENDED,
        )


def _require_sound(connection: sqlite3.Connection, path: Path) -> None:
    if path in _sound:
        return
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise UnreadableError(f"The ledger {path} is damaged: {found[0]}.", hint=_MENDED)
    _sound.add(path)


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
        # SQLite has rolled back by itself where the disk was full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection) -> None:
    if schema_version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        # Another process may have migrated while this one waited for the lock.
        version = schema_version(connection)
        if version > len(MIGRATIONS):
            raise UnreadableError(
                f"The ledger has schema {version}, but this program knows only"
                f" {len(MIGRATIONS)}: a newer bedstone wrote it.",
                hint="Run `site.yml` of the newer version, which installs its program. If no newer"
                f" one was ever here, the file is damaged: {_MENDED}",
            )
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema of a ledger that is open."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
