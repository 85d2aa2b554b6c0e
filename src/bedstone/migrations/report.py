"""Parse a probe's report as typed, frozen values; and write it as JSON."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bedstone.core.errors import BedstoneError
from bedstone.core.process import tail

# What in_image/common.py prints in front of a report; nothing else begins a line like this.
MARKER = "BEDSTONE-MIGRATIONS "
# What in_image/manage_commands.py prints after each command that succeeded.
DONE = "BEDSTONE-DONE"
_PACKED = "zlib:"


@dataclass(frozen=True)
class Pending:
    """One migration that isn't applied yet.

    Attributes:
        name: its identity, ``payments.0002_reference`` or a revision of Alembic.
        reversible: whether the tool can undo it once it is applied.
        why_not: why it can't be undone.
        sql: its statements in order; None when the tool couldn't write them down.
        opaque: what of it is no SQL (functions in Python, ...), in words.
        accepts: the rules that the migration itself says it breaks on purpose.
        title: what it is called by its author, where the identity doesn't say it.
        atomic: whether the tool runs it in one transaction.

    """

    name: str
    reversible: bool = True
    why_not: str | None = None
    sql: tuple[str, ...] | None = None
    opaque: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    title: str = ""
    atomic: bool = False


@dataclass(frozen=True)
class Table:
    """A table or view as it is now.

    Attributes:
        rows: as many as PostgreSQL estimates.
        bytes: with its indexes and what is stored out of line.
        columns: name to type, as PostgreSQL writes it: ``character varying(100)``.
        required: the columns that take no NULL.

    """

    rows: int
    bytes: int
    columns: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backward:
    """The reversal to exactly the migrations of an older release.

    Attributes:
        migrations: those to undo, in the order of undoing.
        irreversible: those that prevent it, and why. When there is one, the
            commands lead as far as the tool can and must not be run.
        commands: to run one after the other in the image that was asked.

    """

    migrations: tuple[str, ...] = ()
    irreversible: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Report:
    """The comparison of an image's migrations with the database.

    Attributes:
        tool: ``django`` or ``alembic``.
        applied: recorded in the database, in the order of being applied. Those the image
            doesn't know (a newer release's) are among them.
        known: in the image.
        pending: what the migrate command would apply, in its order.
        tables: those that pending migrations speak of, by name; those outside of the
            search path by ``schema.name``.
        backward: only when asked for.

    """

    tool: str
    applied: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    pending: tuple[Pending, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    backward: Backward | None = None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The applied ones that the image lacks: the database is ahead of it."""
        known = set(self.known)
        return tuple(name for name in self.applied if name not in known)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that :meth:`as_json` made.

        Raises:
            BedstoneError: it isn't one.

        """
        try:
            backward = data.get("backward")
            return cls(
                tool=str(data["tool"]),
                applied=_strings(data["applied"]),
                known=_strings(data["known"]),
                pending=tuple(_pending(item) for item in data["pending"]),
                tables={
                    name: Table(
                        int(table["rows"]),
                        int(table["bytes"]),
                        dict(table["columns"]),
                        _strings(table.get("required", ())),
                    )
                    for name, table in data["tables"].items()
                },
                backward=None if backward is None else _backward(backward),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BedstoneError(
                f"This is no report of migrations: {type(error).__name__} {error}."
            ) from error


def parse(output: str) -> Report:
    """Return the report in what a probe printed, among whatever the app printed itself.

    Raises:
        BedstoneError: there is none in it; its last lines are the details.

    """
    return Report.from_json(data_in(output))


def data_in(output: str) -> Any:
    """Return what a script of ours printed in an image, see :func:`parse`."""
    lines = [line for line in output.splitlines() if line.startswith(MARKER)]
    if not lines:
        raise BedstoneError(
            "The app's image didn't say which migrations it has.",
            hint="The probe runs beside the declared `migrate` command, as it would. See whether"
            " that command works in the image; `migrations: none` in the app's settings"
            " releases without looking at migrations.",
            details=tail(output),
        )
    text = lines[-1][len(MARKER) :].strip()
    try:
        if text.startswith(_PACKED):
            text = zlib.decompress(base64.b64decode(text[len(_PACKED) :], validate=True)).decode()
        return json.loads(text)
    except (ValueError, zlib.error) as error:
        raise BedstoneError(
            "The report of the app's migrations is cut off or mixed with other output.",
            details=tail(output[-2000:]),
        ) from error


def _pending(data: Mapping[str, Any]) -> Pending:
    return Pending(
        name=str(data["name"]),
        reversible=bool(data["reversible"]),
        why_not=data.get("why_not"),
        sql=None if data["sql"] is None else _strings(data["sql"]),
        opaque=_strings(data["opaque"]),
        accepts=_strings(data["accepts"]),
        title=str(data.get("title") or ""),
        atomic=bool(data.get("atomic")),
    )


def _backward(data: Mapping[str, Any]) -> Backward:
    return Backward(
        migrations=_strings(data["migrations"]),
        irreversible=tuple((str(name), str(why)) for name, why in data["irreversible"]),
        commands=tuple(_strings(command) for command in data["commands"]),
    )


def _strings(data: Any) -> tuple[str, ...]:
    if isinstance(data, str):
        raise TypeError(f"{data!r} where a list is expected")
    return tuple(str(item) for item in data)
