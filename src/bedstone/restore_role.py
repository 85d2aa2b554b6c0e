"""Load a dump without the superuser's rights.

An app's own functions run while its dump is loaded: CHECK constraints, domains, indexes on
expressions. `SET ROLE` would not hold them: whoever came as the superuser can always go back to be
one. So the load comes as a role that never was, a member of the roles that own the data. What
belongs to a superuser (extensions, and what an administrator has made by hand) is his.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bedstone.errors import RefusedError
from bedstone.postgres import PostgresError, identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from bedstone.postgres import Server

# pg_hba.conf and pg_ident.conf of role postgresql let the system's user `postgres` be this role,
# and nobody else. It stays, and between two restores it is a member of nothing.
NAME = "bedstone_restore"

# What has to be there before anything can be made in it, ...
_FIRST = re.compile(
    r"EXTENSION |COMMENT - EXTENSION |PROCEDURAL LANGUAGE |FOREIGN DATA WRAPPER |SERVER "
)
_SCHEMA = re.compile(r"(SCHEMA - |(ACL|COMMENT|SECURITY LABEL) - SCHEMA )(.+)")
# ... and what only a superuser makes, but which needs the rest.
_LAST = re.compile(r"EVENT TRIGGER |PUBLICATION |SUBSCRIPTION |USER MAPPING ")
# The owner of a table with FORCE ROW LEVEL SECURITY sees its rows no longer: foreign keys first.
_ROWS = re.compile(r"ROW SECURITY |POLICY ")
# "215; 1259 16402 TABLE public orders payments_owner": number, two OIDs, kind, schema, name, owner.
_ENTRY = re.compile(r"\d+; \d+ \d+ (.*)")

# Who has one of these could do more than what belongs to the app.
_PRIVILEGED = """
SELECT to_json(rolname::text) FROM pg_roles
 WHERE rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR rolname LIKE 'pg\\_%';
"""


@dataclass(frozen=True)
class Login:
    """How a dump is loaded.

    Attributes:
        name: the role that the load comes as.
        privileged: roles whose objects only the superuser can restore.

    """

    name: str
    privileged: frozenset[str]


@contextmanager
def login(server: Server, roles: Collection[str]) -> Iterator[Login]:
    """Make a role that can load what belongs to other roles, for a block.

    Args:
        server: where.
        roles: the owners, and all others that the dump names.

    Raises:
        RefusedError: the server doesn't let the role in.

    """
    privileged = frozenset(server.rows(_PRIVILEGED))
    present = server.roles()
    if NAME not in present:
        server.execute(f"CREATE ROLE {identifier(NAME)};")
    attributes = "LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    wanted = sorted((set(roles) & present) - privileged - {NAME})
    server.execute(
        "\n".join(
            [
                f"ALTER ROLE {identifier(NAME)} {attributes};",
                *(f"GRANT {identifier(role)} TO {identifier(NAME)};" for role in wanted),
            ]
        )
    )
    try:
        yield Login(NAME, privileged)
    finally:
        if wanted:
            theirs = ", ".join(map(identifier, wanted))
            server.execute(f"REVOKE {theirs} FROM {identifier(NAME)};")


def require(server: Server, database: str) -> None:
    """Refuse when the role can't come into a database.

    Raises:
        RefusedError: says what lets it in.

    """
    try:
        replace(server, role=NAME).execute("SELECT 1;", database)
    except PostgresError as error:
        raise RefusedError(
            f"PostgreSQL doesn't let the role {NAME} in, as which an app's data is loaded so that"
            " its functions don't run with the superuser's rights.",
            hint="Run the playbook `provision.yml`, whose role `postgresql` lets it in. Or trust"
            " every function in this backup: `bedstone restore ... --as-superuser`.",
            details=error.details,
        ) from error


def leave(server: Server, database: str, owner: str) -> None:
    """Give whatever the role still owns in a restored database to its owner."""
    server.execute(
        f"REASSIGN OWNED BY {identifier(NAME)} TO {identifier(owner)};"
        f" DROP OWNED BY {identifier(NAME)};",
        database,
        timeout=600,
    )


def split(lines: Iterable[str], privileged: Collection[str]) -> list[tuple[bool, list[str]]]:
    """Return in which turns the objects of a dump are restored.

    Args:
        lines: of its listing, each an object.
        privileged: roles whose objects only the superuser can restore.

    Returns:
        For each turn that has something to do: whether it is the superuser's, and its objects.

    """
    turns: tuple[list[str], ...] = ([], [], [], [])
    for line in lines:
        if found := _ENTRY.match(line):
            turns[_turn(found[1], privileged)].append(line)
    return [
        (superusers, turn)
        for superusers, turn in zip((True, False, True, False), turns, strict=True)
        if turn
    ]


def _turn(entry: str, privileged: Collection[str]) -> int:
    # Names may have spaces: the owner is what the line ends with.
    theirs = any(entry.endswith(f" {role}") for role in privileged)
    schema = _SCHEMA.fullmatch(entry)
    if schema is not None:
        return 0 if theirs or schema[3].startswith("public ") else 1
    if _FIRST.match(entry):
        return 0
    if theirs or _LAST.match(entry):
        return 2
    return 3 if _ROWS.match(entry) else 1
