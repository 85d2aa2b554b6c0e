"""Compare squashed migrations with those that they replace: `bedstone compare-squash`."""

from __future__ import annotations

import json
import shlex
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.cli.main import add_command
from bedstone.core.errors import BedstoneError
from bedstone.core.signals import terminable
from bedstone.migrations import commands, squash
from bedstone.postgres import programs, schema_difference, temporary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bedstone.cli.main import Subparsers
    from bedstone.migrations.squash import Comparison
    from bedstone.postgres.schema_difference import Difference

_DEFAULT = "python manage.py migrate"
_SIDES = {
    schema_difference.FIRST: "only the replaced migrations make it",
    schema_difference.SECOND: "only the squashed migrations make it",
}


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "compare-squash",
        _command,
        summary="compare squashed migrations of Django with those that they replace",
        description=(
            "Run it in the app's source, with its Python and the variables that its settings\n"
            "require, before the squash is released. A throw-away PostgreSQL is started (no\n"
            "network, removed afterwards). The app's Django migrates one database there by the\n"
            "replaced migrations, another one by the squashed ones, and the two are compared:\n"
            "tables, columns, types, defaults, constraints, indexes, sequences, views, functions,\n"
            "triggers, extensions, and how many rows each table has.\n\n"
            "Needs PostgreSQL's server programs (Debian: postgresql), and no root.\n\n"
            "Exit code 1: they differ, or one of them can't be applied."
        ),
        examples=(
            "bedstone compare-squash",
            "bedstone compare-squash shop stock.0001_squashed_0004",
            "bedstone compare-squash --command 'python manage.py migrate --settings=ci'",
        ),
    )
    parser.set_defaults(needs_root=False)
    parser.add_argument(
        "squashes",
        metavar="APP",
        nargs="*",
        help="apps of Django, or squashed migrations (default: all of the project's own)",
    )
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="the app's source (default: here)"
    )
    parser.add_argument(
        "--command",
        default=_DEFAULT,
        help="the app's migrate command (default: %(default)s)",
    )
    parser.add_argument(
        "--extension",
        metavar="NAME",
        action="append",
        default=[],
        help="one that the app's database has from elsewhere; may be given several times",
    )
    parser.add_argument(
        "--postgresql", metavar="MAJOR", type=int, help="a version (default: the newest here)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _command(arguments: argparse.Namespace) -> int:
    try:
        found = commands.django([shlex.split(arguments.command)])
    except ValueError as error:
        raise BedstoneError(f"The command can't be read: {error}.") from error
    if not found:
        raise BedstoneError(
            f"{arguments.command!r} is no migrate command of Django.",
            hint=f"Like: `bedstone compare-squash --command '{_DEFAULT}'`",
        )
    with terminable(), tempfile.TemporaryDirectory(prefix="bedstone-squash-") as made:
        place = Path(made)
        # The cluster's user has to get through.
        place.chmod(0o711)
        major = arguments.postgresql or _newest()
        with temporary.cluster(place, major, watch=lambda: None) as server:
            result = squash.compare(
                server,
                found[0],
                arguments.directory,
                arguments.squashes,
                extensions=arguments.extension,
            )
    if arguments.json:
        print(json.dumps({"equal": result.is_equal, **asdict(result)}, indent=2))
    else:
        print("\n".join(_lines(result)))
    return 0 if result.is_equal else 1


def _newest() -> int:
    found = programs.majors("initdb")
    if not found:
        raise BedstoneError(
            f"There is no PostgreSQL server in {programs.HOME}.",
            hint="Debian: apt install postgresql",
        )
    return found[-1]


def _lines(result: Comparison) -> Iterator[str]:
    for name, replaced in result.squashes.items():
        yield f"{name} replaces {len(replaced)}: {replaced[0]} to {replaced[-1]}"
    yield f"{result.objects} objects of the schema compared."
    for item in result.schema:
        yield ""
        yield from _difference(item)
    for table, (first, second) in result.rows.items():
        yield ""
        yield f"rows of {table} differ"
        yield f"  replaced migrations: {first}"
        yield f"  squashed migrations: {second}"
    count = len(result.schema) + len(result.rows)
    yield ""
    yield "They make the same schema." if not count else f"They differ in {count}."


def _difference(item: Difference) -> Iterator[str]:
    kind = item.kind.lower()
    if item.what in _SIDES:
        yield f"{kind} {item.name}: {_SIDES[item.what]}"
        yield from (f"  {line.strip()}" for line in item.first + item.second)
        return
    named = item.what == schema_difference.NAME
    yield f"{kind} {item.name} " + ("has another name only" if named else "differs")
    yield from (f"  replaced migrations: {line}" for line in item.first)
    yield from (f"  squashed migrations: {line}" for line in item.second)
