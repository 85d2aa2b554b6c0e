"""Parse a column's definition in `ADD COLUMN`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedstone.migrations.sql import Reader, Token

# Each begins a constraint; none is part of a type's name.
_STARTERS = {
    "constraint", "not", "null", "default", "generated", "check", "unique", "primary",
    "references", "collate", "compression", "storage", "deferrable", "initially", "using",
}  # fmt: skip
_SERIAL = {"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"}
# A default with one of these has another value in each row, so that all must be written.
_VOLATILE = {
    "gen_random_uuid", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "uuidv4",
    "uuidv7", "random", "random_normal", "clock_timestamp", "timeofday", "nextval",
    "gen_random_bytes", "gen_salt",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """The parts of a column's definition.

    Attributes:
        name: its name.
        type: the tokens of its type.
        not_null: whether it forbids NULL.
        default: whether the database has a value of its own for it.
        rewrites: whether adding it writes every row.
        checked: whether adding it reads every row, for a constraint of it.
        unique: whether no two rows may have the same value of it.

    """

    name: str
    type: tuple[Token, ...]
    not_null: bool = False
    default: bool = False
    rewrites: bool = False
    checked: bool = False
    unique: bool = False


@dataclass
class _Said:
    """The constraints of a definition, as far as they are read."""

    not_null: bool = False
    checked: bool = False
    unique: bool = False
    references: bool = False
    generated: bool = False
    rewrites: bool = False
    default: tuple[Token, ...] = ()

    def take(self, reader: Reader) -> bool:
        """Take one constraint; return whether there was one that matters."""
        if reader.take("not", "null"):
            self.not_null = True
        elif reader.take("default"):
            self.default = _expression(reader)
        elif reader.take("generated"):
            self.generated = True
            self.rewrites = self.rewrites or _stored(reader)
        elif reader.take("primary", "key"):
            self.not_null = self.checked = self.unique = True
        elif reader.take("unique"):
            self.checked = self.unique = True
        elif reader.take("check"):
            reader.group()
            self.checked = True
        elif reader.take("references"):
            self.references = True
        else:
            return False
        return True


def column(reader: Reader) -> Column | None:
    """Take a column's definition: name, type, constraints."""
    name = reader.name()
    if name is None:
        return None
    kind = type_of(reader)
    serial = len(kind) == 1 and kind[0].value in _SERIAL
    said = _Said(rewrites=serial)
    while not reader.at_end:
        if not _no_constraint(reader) and not said.take(reader):
            reader.skip()
    has_default = bool(said.default) and said.default[0].value != "null"
    return Column(
        name=name,
        type=kind,
        not_null=said.not_null,
        default=has_default or said.generated or serial,
        rewrites=said.rewrites or any(token.value in _VOLATILE for token in said.default),
        # Without a default all rows refer to nothing, and PostgreSQL detects it.
        checked=said.checked or (said.references and has_default),
        unique=said.unique,
    )


def type_of(reader: Reader) -> tuple[Token, ...]:
    """Take a type: all tokens up to whatever may follow one."""
    found: list[Token] = []
    while not reader.at_end:
        token = reader.peek()
        if token is None or (token.kind == "word" and token.value in _STARTERS):
            break
        found.append(token)
        reader.skip()
    return tuple(found)


def _expression(reader: Reader) -> tuple[Token, ...]:
    """Take a default: its first token whatever it is (NULL, say), then up to a constraint."""
    found: list[Token] = []
    depth = 0
    while not reader.at_end:
        token = reader.peek()
        if token is None:
            break
        if found and not depth and token.kind == "word" and token.value in _STARTERS:
            break
        if token.kind == "symbol":
            depth += {"(": 1, ")": -1}.get(token.value, 0)
        found.append(token)
        reader.skip()
    return tuple(found)


def _stored(reader: Reader) -> bool:
    """Take what follows GENERATED; return whether every row is written."""
    reader.take("always") or reader.take("by", "default")
    reader.take("as")
    if reader.take("identity"):
        reader.group()
        return True
    reader.group()
    return not reader.take("virtual")


def _no_constraint(reader: Reader) -> bool:
    """Take what holds the words NULL, NOT or DEFAULT and says nothing of the column."""
    if reader.take("on", "delete") or reader.take("on", "update"):
        if reader.take("set", "null") or reader.take("set", "default"):
            reader.group()
        return True
    return reader.take("not", "deferrable") or reader.take("not", "enforced")
