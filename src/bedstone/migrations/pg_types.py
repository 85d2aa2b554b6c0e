"""Judge changes of a column's type in PostgreSQL: free, a rewrite, or incompatible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bedstone.migrations.sql import Reader, Token, tokens

Cost = Literal["free", "rewrite", "change"]

_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
    "varchar": "character varying",
    "char varying": "character varying",
    "char": "character",
    "nchar": "character",
    "bpchar": "character",
    "decimal": "numeric",
    "dec": "numeric",
    "float8": "double precision",
    "float": "double precision",
    "float4": "real",
    "bool": "boolean",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}
_WIDTH = {"smallint": 2, "integer": 4, "bigint": 8}
_PRECISION = {
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "time with time zone",
}
_DEFAULT_PRECISION = 6
_VARYING = {"character varying", "text"}


@dataclass(frozen=True)
class Type:
    """A type by PostgreSQL's own name for it, its arguments, and its dimensions."""

    base: str
    arguments: tuple[str, ...] = ()
    dimensions: int = 0


def parse(text: str) -> Type:
    """Return the type that a text names, as `format_type()` or an operator writes it."""
    return of_tokens(tuple(tokens(text)))


def of_tokens(given: Sequence[Token]) -> Type:
    """Return the type that tokens name."""
    reader = Reader(given)
    words: list[str] = []
    arguments: tuple[str, ...] = ()
    dimensions = 0
    while not reader.at_end:
        token = reader.peek()
        if token is None:
            break
        if token.kind in {"word", "name"}:
            if reader.take("array"):
                dimensions += 1
                continue
            # A schema in front doesn't make another type of it.
            path = reader.path()
            words.append(path[-1])
        elif reader.sees("("):
            arguments = tuple(
                part.value for part in reader.group() if part.kind in {"number", "word", "name"}
            )
        else:
            dimensions += reader.take("[")
            reader.skip()
    base = " ".join(words)
    return Type(_ALIASES.get(base, base), arguments, dimensions)


def change(old: Type, new: Type) -> Cost:
    """Return what it takes to make a column of one type one of another.

    Returns:
        ``free``: PostgreSQL changes its catalogue alone, and old code goes on as before.
        ``rewrite``: old code goes on as before, but the whole table is rewritten.
        ``change``: old code can't go on as before.

    """
    if old == new:
        return "free"
    if old.dimensions != new.dimensions:
        return "change"
    cost = _scalar(old, new)
    # The elements of an array are converted one by one, even where that changes nothing.
    return "rewrite" if cost == "free" and old.dimensions else cost


def _scalar(old: Type, new: Type) -> Cost:
    if old.base in _WIDTH and new.base in _WIDTH:
        return "rewrite" if _WIDTH[new.base] > _WIDTH[old.base] else "change"
    if (old.base, new.base) == ("real", "double precision"):
        return "rewrite"
    return "free" if _free(old, new) else "change"


def _free(old: Type, new: Type) -> bool:
    if old.base in _VARYING and new.base in _VARYING:
        return _fits(old.arguments, new.arguments)
    if old.base != new.base:
        return False
    if old.base in _PRECISION:
        return _precision(new) >= _precision(old)
    if old.base == "numeric":
        return _numeric_fits(old.arguments, new.arguments)
    return old.base == "bit varying" and _fits(old.arguments, new.arguments)


def _fits(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Return whether a length takes all that another took; none is no limit."""
    if not new:
        return True
    return bool(old) and _number(new[0]) >= _number(old[0])


def _numeric_fits(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    if not new:
        return True
    if not old or _scale(old) != _scale(new):
        return False
    return _number(new[0]) >= _number(old[0])


def _scale(arguments: tuple[str, ...]) -> int:
    return _number(arguments[1]) if len(arguments) > 1 else 0


def _precision(kind: Type) -> int:
    return _number(kind.arguments[0]) if kind.arguments else _DEFAULT_PRECISION


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
