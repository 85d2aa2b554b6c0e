"""Ask a PostgreSQL server about itself, and tell it to act on the cluster as a whole."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.postgres.server import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.postgres.server import Server

_MARGIN = 1.1
_SIZES = """
SELECT json_build_array(datname, pg_database_size(oid)) FROM pg_database
 WHERE NOT datistemplate ORDER BY datname;
"""
_SET_ASIDE = """
SELECT json_build_array(d.datname, pg_catalog.pg_database_size(d.oid))
  FROM pg_catalog.pg_database d WHERE d.datname ~ '_before_restore_[0-9]{8}_[0-9]{6}$';
"""
_LOCK_WAIT = "20s"
_INVALID_INDEXES = """
SELECT pg_catalog.json_build_array(n.nspname, c.relname)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid AND c.relname IN (NAMES)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p
                    WHERE p.index_relid = c.oid)
 ORDER BY 1::text
"""
_ARCHIVER = """
SELECT json_build_object(
  'mode', current_setting('archive_mode'),
  'command', current_setting('archive_command'),
  'segment_bytes', pg_size_bytes(current_setting('wal_segment_size')),
  'archived', last_archived_wal,
  'archived_seconds', extract(epoch FROM clock_timestamp() - last_archived_time),
  'failed', last_failed_wal,
  'failed_seconds', extract(epoch FROM clock_timestamp() - last_failed_time),
  'failing', coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),
  'ready', ready.number,
  'ready_seconds', extract(epoch FROM clock_timestamp() - ready.oldest))
FROM pg_stat_archiver, (
  SELECT count(*) AS number, min(modification) AS oldest
  FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') AS ready;
"""


def restored_bytes(size: int) -> int:
    """Return the bytes that a restored or copied database takes, at most, by what it took.

    Indexes are built next to their tables, and files are copied one by one.
    """
    return int(size * _MARGIN)


def data_directory(server: Server) -> Path:
    """Return the cluster's directory."""
    return Path(server.execute("SHOW data_directory").strip())


def system_identifier(server: Server) -> int:
    """Return the number that only this cluster and its copies have."""
    return int(server.execute("SELECT system_identifier FROM pg_control_system()"))


def start_time(server: Server) -> str:
    """Return when the server was started, as PostgreSQL writes it."""
    return str(server.value("SELECT pg_postmaster_start_time()"))


def available_extensions(server: Server) -> set[str]:
    """Return the names of the extensions that are installed on the server."""
    return set(server.rows("SELECT to_json(name::text) FROM pg_available_extensions"))


def extensions(server: Server, database: str) -> list[str]:
    """Return the names of the extensions of a database."""
    return [
        str(n) for n in server.rows("SELECT to_json(extname::text) FROM pg_extension", database)
    ]


def template_locale(server: Server) -> tuple[str, str, str]:
    """Return encoding, collation and character type of a new cluster that is like this one."""
    encoding, collate, kind = server.execute(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database"
        " WHERE datname = 'template0';"
    ).strip().split("|")  # fmt: skip
    return encoding, collate, kind


def database_size(server: Server, name: str) -> int | None:
    """Return the bytes of a database on the disk; None if it isn't there."""
    found = server.value(
        "SELECT pg_database_size(oid) FROM pg_database"  # noqa: S608
        f" WHERE datname = {literal(name)}"
    )
    return int(found) if found is not None else None


def database_sizes(server: Server) -> dict[str, int]:
    """Return the bytes of each database that is no template."""
    return dict(server.rows(_SIZES))


def set_aside_sizes(server: Server) -> list[tuple[str, int]]:
    """Return the databases that restores have set aside, and their bytes."""
    return [(name, size) for name, size in server.rows(_SET_ASIDE)]


def drop_database(server: Server, name: str) -> None:
    """Remove a database, with its sessions; nothing if it isn't there."""
    server.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE);", timeout=300)


def drop_invalid_indexes(server: Server, database: str, names: Sequence[str]) -> list[str]:
    """Drop those of the named indexes that are invalid and not being built; return them."""
    listed = ", ".join(map(literal, names))
    dropped = []
    for schema, index in server.rows(_INVALID_INDEXES.replace("NAMES", listed), database):
        name = f"{identifier(schema)}.{identifier(index)}"
        server.execute(
            f"SET lock_timeout = '{_LOCK_WAIT}'; DROP INDEX CONCURRENTLY {name};", database
        )
        dropped.append(str(index))
    return dropped


def analyze(server: Server, database: str) -> None:
    """Gather the statistics of a database, without which it is slow."""
    server.execute("ANALYZE;", database, timeout=None)


def archiver(server: Server) -> dict[str, Any]:
    """Return what the server says of the archiving of its WAL."""
    (found,) = server.rows(_ARCHIVER)
    return dict(found)


def wal_segment(server: Server) -> str:
    """Return the name of the WAL segment that is being written."""
    return server.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").strip()


def switch_wal(server: Server) -> str:
    """End the present WAL segment and return its name."""
    return server.execute(
        # Without anything in it, a segment isn't ended.
        "SELECT pg_create_restore_point('bedstone') \\g /dev/null\n"
        "SELECT pg_walfile_name(pg_switch_wal())"
    ).strip()


def assign_transaction(server: Server) -> None:
    """Commit a transaction that has a number and changes nothing."""
    server.execute("SELECT pg_current_xact_id() \\g /dev/null")


def is_in_recovery(server: Server) -> bool:
    """Return whether the server still recovers.

    Raises:
        PostgresError: it takes no session yet, or no more.

    """
    return server.execute("SELECT pg_is_in_recovery()", timeout=30).strip() != "f"


def end_of_recovery(server: Server) -> tuple[datetime | None, str]:
    """Return the time of the last transaction that was recovered, and the position in the WAL."""
    at, lsn = server.rows(
        "SELECT json_build_array(pg_last_xact_replay_timestamp(),"
        " coalesce(pg_last_wal_replay_lsn(), pg_current_wal_lsn())::text);"
    )[0]
    return datetime.fromisoformat(at) if at else None, lsn
