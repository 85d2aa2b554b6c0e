"""Compare schemas of databases, however they were made: by a digest, or object by object."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core.errors import CommandError
from bedstone.core.process import run
from bedstone.postgres.server import explained

if TYPE_CHECKING:
    from bedstone.postgres.server import Server

SECONDS = 300.0
_LOCK_WAIT = "30s"
# pg_dump puts this over every object.
_HEADING = re.compile(r"^--\n-- (Name: .*)\n--\n", re.MULTILINE)
_NAMED = re.compile(r"Name: (.*); Type: (.*); Schema: (.*); Owner: .*")
# What it says between objects and at the end, with a random token in newer versions.
_REMARK = re.compile(
    r"^(?:--|-- PostgreSQL database dump complete|\\unrestrict .*|SET default_.*)$"
)
_TABLE = re.compile(r"CREATE (?:UNLOGGED |FOREIGN )?TABLE .*\($")


@dataclass(frozen=True, order=True)
class Key:
    """What identifies an object of a schema: ``TABLE``, ``public``, ``book``."""

    kind: str
    schema: str
    name: str


def of_database(server: Server, database: str) -> str:
    """Return the digest of a database's schema, as 32 hexadecimal digits.

    Everything that a migration can make counts, by its name: tables, columns, types,
    defaults, constraints, indexes, views, functions, triggers, extensions. Owners,
    privileges, comments and the order of a table's columns don't: a column that was
    removed and brought back stands last, and no app minds.

    Args:
        server: where the database is.
        database: its name.

    Raises:
        PostgresError: pg_dump failed, or had to wait too long for a lock.

    """
    return digest(_dump(server, database))


def objects(server: Server, database: str) -> dict[Key, tuple[str, ...]]:
    """Return the objects of a database's schema that the digest is made of, and their lines.

    Raises:
        PostgresError: see :func:`of_database`.

    """
    return keyed(_dump(server, database))


def keyed(dump: str) -> dict[Key, tuple[str, ...]]:
    """Return the objects of a schema as pg_dump writes it."""
    found: dict[Key, tuple[str, ...]] = {}
    for heading, lines in _objects(dump):
        named = _NAMED.fullmatch(heading)
        name, kind, schema = named.groups() if named else (heading, "", "")
        key = Key(kind, schema, name)
        found[key] = (*found.get(key, ()), *lines)
    return found


def _dump(server: Server, database: str) -> str:
    arguments = server.command(
        server.program("pg_dump"), "--schema-only", "--no-owner", "--no-privileges",
        "--no-comments", "--no-security-labels", "--no-publications", "--no-subscriptions",
        "--no-tablespaces", "--no-password", f"--lock-wait-timeout={_LOCK_WAIT}",
    )  # fmt: skip
    # By a variable a name is a name, whatever characters it has.
    environment = {**server.environment(), "PGDATABASE": database}
    # To a file: of a program's output only so much is kept.
    with tempfile.TemporaryFile() as output:
        try:
            run(arguments, env=environment, cwd="/", timeout=SECONDS, stdout=output)
        except CommandError as error:
            raise explained(error.details or error.message) from error
        output.seek(0)
        return output.read().decode()


def digest(dump: str) -> str:
    """Return the digest of a schema as pg_dump writes it."""
    text = "\n\n".join(sorted("\n".join(lines) for _, lines in _objects(dump)))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _objects(dump: str) -> Iterator[tuple[str, list[str]]]:
    # What stands before the first object is about the session and the versions.
    _, *parts = _HEADING.split(dump)
    for heading, part in zip(parts[::2], parts[1::2], strict=True):
        lines = [line for line in part.splitlines() if line and not _REMARK.match(line)]
        if lines and _TABLE.match(lines[0]):
            end = next((n for n, line in enumerate(lines) if line.startswith(")")), len(lines))
            columns = sorted(line.removesuffix(",") for line in lines[1:end])
            lines = [lines[0], *columns, *lines[end:]]
        if lines:
            yield heading, lines
