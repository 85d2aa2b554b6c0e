"""One table out of a dump, in a database beside.

``pg_restore --table`` alone would leave out what a table needs (its types, sequences,
functions) and what makes it fast to look at (its indexes). So all tables are made, as they
were, and the wanted one alone is filled; foreign keys, which would point at rows that aren't
there, and triggers are left away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bedstone import dump, restore_role
from bedstone.dump import DATA, POST_DATA, PRE_DATA
from bedstone.errors import RefusedError
from bedstone.postgres import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bedstone.manifest import Manifest
    from bedstone.postgres import Server
    from bedstone.restore_role import Login

# "215; 1259 16402 TABLE public orders payments_owner": number, two OIDs, kind, schema, name, owner.
_ENTRY = re.compile(r"(\d+); \d+ \d+ (.*)")
_TABLE = re.compile(r"TABLE (?!DATA |ATTACH )(\S+) (.+) \S+")
# The rows of entry 3401 are in "database/3401.dat.zst".
_FILE = re.compile(r"(.+)/(\d+)\.dat(\..+)?")
_BESIDES = (
    "SEQUENCE SET ", "CONSTRAINT ", "INDEX ", "INDEX ATTACH ", "ROW SECURITY ", "POLICY ",
)  # fmt: skip

# The table itself, or the partitions that hold its rows.
_FILLED = """
SELECT json_build_array(n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r'
   AND (c.oid = {table}::regclass
        OR c.oid IN (SELECT relid FROM pg_partition_tree({table}::regclass)))
 ORDER BY n.nspname, c.relname;
"""

# Empty tables and indexes take room, too.
_LEAST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Table:
    """A table in a dump."""

    schema: str
    name: str

    def __str__(self) -> str:
        """Return ``schema.name``, as the manifest and people write it."""
        return f"{self.schema}.{self.name}"


def find(listing: str, wanted: str) -> Table:
    """Return the table that a person asked for.

    Args:
        listing: the dump's contents, as ``pg_restore --list`` prints them.
        wanted: ``schema.table``, or the table alone if it is in one schema only.

    Raises:
        RefusedError: it isn't in the dump, or several are meant; names the nearest.

    """
    tables = _tables(listing)
    meant = [table for table in tables if wanted in {str(table), table.name}]
    exact = [table for table in meant if str(table) == wanted] or meant
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise RefusedError(
            f"Several tables of the dump are called {wanted}:"
            f" {', '.join(sorted(map(str, exact)))}.",
            hint=f"Say which: --table {min(map(str, exact))}",
        )
    names = {name: str(table) for table in tables for name in (table.name, str(table))}
    close = list(dict.fromkeys(names[name] for name in get_close_matches(wanted, names, n=3)))
    shown = ", ".join(sorted(map(str, tables))[:10])
    raise RefusedError(
        f"The dump has no table {wanted}.",
        hint=f"Did you mean {' or '.join(close)}?"
        if close
        else f"Its tables: {shown or 'none'}{', ...' if len(tables) > 10 else ''}.",  # noqa: PLR2004
    )


def needed_bytes(listing: str, table: Table, found: Manifest, directory: str) -> int:
    """Return about how many bytes a restore of one table takes.

    Args:
        listing: the dump's contents.
        table: which.
        found: the backup's manifest.
        directory: the dump's directory in the backup.

    """
    assert found.database is not None
    files = ((_FILE.fullmatch(name), file) for name, file in found.files.items())
    data = {match[2]: file.bytes for match, file in files if match and match[1] == directory}
    numbers = [
        match[1]
        for match in map(_ENTRY.match, listing.splitlines())
        if match and match[2].startswith(f"TABLE DATA {table.schema} {table.name} ")
    ]
    if not numbers:
        # A partitioned table: its rows are elsewhere.
        return found.database.bytes
    share = sum(data.get(number, 0) for number in numbers) / (sum(data.values()) or 1)
    return min(int(found.database.bytes * share) + _LEAST_BYTES, found.database.bytes)


def load(
    server: Server,
    directory: Path,
    database: str,
    table: Table,
    *,
    jobs: int,
    owner: str | None,
    watch: Callable[[], None],
    login: Login | None = None,
) -> frozenset[str]:
    """Restore one table into an empty database; see :func:`dump.load`.

    Returns:
        The tables that were filled, as ``schema.table``: the table, or its partitions.

    Raises:
        BedstoneError: an object could not be restored.

    """
    if login is not None:
        lines = dump.listing(server, directory).splitlines()
        own = restore_role.without_privileged(lines, login)
        if not any(f" TABLE {table.schema} {table.name} " in line for line in own):
            raise RefusedError(
                f"{table} belongs to a superuser, and only one fills it.",
                hint="If you trust every function in this backup: `bedstone restore ..."
                " --as-superuser`.",
            )
    how: dict[str, Any] = {"jobs": jobs, "owner": owner, "watch": watch, "login": login}
    dump.load(server, directory, database, sections=(PRE_DATA,), **how)
    name = literal(f"{identifier(table.schema)}.{identifier(table.name)}")
    filled = [Table(*row) for row in server.rows(_FILLED.format(table=name), database)]
    dump.load(
        server,
        directory,
        database,
        sections=(DATA, POST_DATA),
        only=wanted(filled),
        **how,
    )
    return frozenset(map(str, filled))


def wanted(filled: Sequence[Table]) -> Callable[[str], bool]:
    """Return what tells whether a line of the listing belongs to tables with their rows."""
    beginnings = (*_BESIDES, *(f"TABLE DATA {table.schema} {table.name} " for table in filled))

    def belongs(line: str) -> bool:
        found = _ENTRY.match(line)
        return found is not None and found[2].startswith(beginnings)

    return belongs


def _tables(listing: str) -> list[Table]:
    found = []
    for line in listing.splitlines():
        entry = _ENTRY.match(line)
        table = entry and _TABLE.fullmatch(entry[2])
        if table:
            found.append(Table(table[1], table[2]))
    return found
