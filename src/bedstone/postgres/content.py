"""Find out what a server's databases hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.postgres.server import PostgresError, identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.postgres.server import Server

# By their size, not by a count of rows: a database of any size answers at once. What an extension
# brings along is no data of the operator's.
_TABLES = """
SELECT to_json(current_database() || ': ' || c.oid::pg_catalog.regclass)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND pg_catalog.pg_relation_size(c.oid) > 0 AND NOT EXISTS
    (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid::pg_catalog.regclass::text LIMIT 5
"""

# ONLY, so that inherited rows count once.
_COUNTS = """
SELECT format('SELECT json_build_array(%1$L, count(*)) FROM ONLY %1$s;', c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS
    (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid::regclass::text \\gexec
"""


def create_empty(server: Server, database: str, extensions: Sequence[str] = ()) -> None:
    """Create a database with nothing but some extensions.

    Raises:
        PostgresError: there is one of its name, or an extension isn't available.

    """
    server.execute(f"CREATE DATABASE {identifier(database)} TEMPLATE template0")
    for extension in extensions:
        server.execute(f"CREATE EXTENSION {identifier(extension)} CASCADE", database)


def row_counts(server: Server, database: str) -> dict[str, int]:
    """Return the number of rows in each table of a small database.

    Raises:
        PostgresError: it doesn't tell.

    """
    return dict(server.rows(_COUNTS, database))


def tables_with_content(server: Server) -> list[str]:
    """Return the first tables of each database that aren't empty; none where no server answers.

    Raises:
        PostgresError: a server that answers doesn't tell.

    """
    try:
        server.execute("SELECT")
    except PostgresError:
        return []
    databases = server.rows(
        "SELECT to_json(datname::text) FROM pg_database WHERE NOT datistemplate AND datallowconn"
        " ORDER BY datname"
    )
    return [table for name in databases for table in server.rows(_TABLES, name)]
