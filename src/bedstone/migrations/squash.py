"""Prove that squashed migrations make the schema of those that they replace.

Both are applied by the app's own Django, each to an empty database of a server without data, and
the two databases are compared.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run
from bedstone.migrations.probe import squash_driver
from bedstone.migrations.report import data_in
from bedstone.postgres import content, schema_digest
from bedstone.postgres.schema_difference import Difference, differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedstone.migrations.commands import Django
    from bedstone.postgres.server import Server

REPLACED, SQUASHED = "replaced", "squashed"
DATABASES = {REPLACED: "by_replaced_migrations", SQUASHED: "by_squashed_migrations"}
SECONDS = 3600.0
# Its rows are the migrations themselves.
_RECORDS = "django_migrations"


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        squashes: the squashed migrations, each with those that it replaces.
        objects: how many objects of the schema were compared.
        schema: what differs; the first is what the replaced migrations make.
        rows: the tables whose number of rows differs: the replaced migrations', the squashed ones'.

    """

    squashes: Mapping[str, Sequence[str]]
    objects: int
    schema: tuple[Difference, ...]
    rows: Mapping[str, tuple[int, int]]

    @property
    def is_equal(self) -> bool:
        """Whether the squashed migrations can stand for the others."""
        return not self.schema and not self.rows


def compare(
    server: Server,
    django: Django,
    directory: Path,
    squashes: Sequence[str] = (),
    *,
    extensions: Sequence[str] = (),
) -> Comparison:
    """Apply both to databases of their own, and compare these.

    Args:
        server: a server without data, reached without a password; the databases stay on it.
        django: the app's migrate command.
        directory: where that is run: the app's source.
        squashes: apps, or squashed migrations (``shop.0001_squashed_0003``); none for all of the
            project's own.
        extensions: those that both databases have from the start.

    Raises:
        BedstoneError: one of them can't be applied, or there is nothing to compare.

    """
    found: dict[str, list[str]] = {}
    for which, name in DATABASES.items():
        content.create_empty(server, name, extensions)
        data = _migrate(server, django, directory, squashes, which)
        found = {item["name"]: item["replaces"] for item in data["squashes"]}
    first, second = (schema_digest.objects(server, name) for name in DATABASES.values())
    return Comparison(
        found,
        len(first.keys() | second.keys()),
        tuple(differences(first, second)),
        _rows(server),
    )


def _migrate(
    server: Server, django: Django, directory: Path, squashes: Sequence[str], which: str
) -> Any:
    database = {
        "NAME": DATABASES[which],
        "USER": server.role,
        "HOST": server.socket,
        "PORT": str(server.port),
    }
    question = {"database": database, "squashes": list(squashes), "replaced": which == REPLACED}
    with tempfile.TemporaryDirectory(prefix="bedstone-squash-") as scripts:
        path = Path(scripts) / "driver.py"
        driver = squash_driver(django, question, str(path))
        path.write_text(driver.script, encoding="utf-8")
        try:
            done = run(driver.command, cwd=str(directory), env=driver.variables, timeout=SECONDS)
        except CommandError as error:
            raise BedstoneError(
                f"The {which} migrations can't be applied to an empty database.",
                details=error.details or error.message,
                hint="The command runs as it stands, in the app's directory, with this shell's"
                " variables: those that the settings require have to be set. The database is"
                " given to it.",
            ) from error
    return data_in(done.stdout)


def _rows(server: Server) -> dict[str, tuple[int, int]]:
    first, second = (content.row_counts(server, name) for name in DATABASES.values())
    return {
        table: (first[table], second[table])
        for table in sorted(first.keys() & second.keys())
        if first[table] != second[table] and not table.endswith(_RECORDS)
    }
