"""Find what pg_upgrade refuses, or what it would leave behind, in a running cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.postgres import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone.postgres.server import Server

_COLLATIONS_SINCE = 15

# Query -> what prevents the upgrade, when the answer has rows.
_OBSTACLES = (
    (
        "SELECT gid FROM pg_prepared_xacts",
        "transactions that were prepared and neither committed nor rolled back",
        "COMMIT PREPARED or ROLLBACK PREPARED each of them",
    ),
    (
        "SELECT slot_name FROM pg_replication_slots",
        "replication slots, which don't come along",
        "drop them (pg_drop_replication_slot), and create them again after the upgrade",
    ),
    (
        "SELECT subname FROM pg_subscription",
        "subscriptions, which would have to be looked after by hand",
        "drop them, and create them again after the upgrade",
    ),
    (
        "SELECT spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')",
        "tablespaces of their own, which this command doesn't take along",
        "move their tables to the default one (ALTER TABLE ... SET TABLESPACE pg_default)",
    ),
    (
        "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'",
        "databases that accept no connection, which pg_upgrade can't read",
        "ALTER DATABASE ... WITH ALLOW_CONNECTIONS true, or drop them",
    ),
)

_COLLATION_OF_DATABASES = """
SELECT datname FROM pg_database
 WHERE datcollversion <> pg_database_collation_actual_version(oid)
"""
_COLLATION_OF_INDEXES = """
SELECT DISTINCT d.objid::regclass FROM pg_depend d JOIN pg_collation c
    ON d.refclassid = 'pg_collation'::regclass AND d.refobjid = c.oid
 WHERE c.collversion <> pg_collation_actual_version(c.oid) AND d.classid = 'pg_class'::regclass
   AND d.objid IN (SELECT indexrelid FROM pg_index)
"""


def objects(server: Server) -> Iterator[str]:
    """Yield the kinds of objects that prevent an upgrade, with their names and the cure."""
    for query, what, cure in _OBSTACLES:
        if names := _names(server, query):
            yield f"there are {what}: {some(names)}; {cure}"


def collations(server: Server) -> Iterator[str]:
    """Yield what was sorted by another version of its collation."""
    if server.major() < _COLLATIONS_SINCE:
        return
    if names := _names(server, _COLLATION_OF_DATABASES):
        yield (
            f"the system sorts in another way than when these databases were made: {some(names)};"
            " REINDEX DATABASE, then ALTER DATABASE ... REFRESH COLLATION VERSION"
        )
    for database in compare.databases(server):
        if names := _names(server, _COLLATION_OF_INDEXES, database):
            yield (
                f"indexes of {database} were sorted by an older version of their collation:"
                f" {some(names)}; REINDEX them, then ALTER COLLATION ... REFRESH VERSION"
            )


def _names(server: Server, query: str, database: str = "postgres") -> list[str]:
    text = server.execute(f"{query};", database)
    return [line for line in text.splitlines() if line]


def some(names: list[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
