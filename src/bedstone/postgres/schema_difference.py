"""Find what differs between two schemas, object by object, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedstone.postgres.schema_digest import Key

    Objects = Mapping[Key, Sequence[str]]

DIFFERENT, FIRST, SECOND, NAME = "different", "only in the first", "only in the second", "name"


@dataclass(frozen=True)
class Difference:
    """An object that two schemas don't have alike.

    Attributes:
        what: one of the constants above; ``name`` when only the name of the object differs.
        kind: pg_dump's word for its kind: ``TABLE``.
        name: the object's name, in the first schema where it is there.
        first: the lines that only the first schema's object has.
        second: the lines that only the second schema's object has.

    """

    what: str
    kind: str
    name: str
    first: tuple[str, ...] = ()
    second: tuple[str, ...] = ()


def differences(first: Objects, second: Objects) -> list[Difference]:
    """Return what differs between two schemas, sorted by kind and name."""
    left = {key: tuple(lines) for key, lines in first.items() if key not in second}
    right = {key: tuple(lines) for key, lines in second.items() if key not in first}
    found = [
        Difference(DIFFERENT, key.kind, _full(key), *_lines(first[key], second[key]))
        for key in first.keys() & second.keys()
        if sorted(first[key]) != sorted(second[key])
    ]
    for key, other in list(_renamed(left, right)):
        found.append(Difference(NAME, key.kind, _full(key), (_full(key),), (_full(other),)))
        del left[key], right[other]
    found += [Difference(FIRST, key.kind, _full(key), first=left[key]) for key in left]
    found += [Difference(SECOND, key.kind, _full(key), second=right[key]) for key in right]
    return sorted(found, key=lambda item: (item.kind, item.name, item.what))


def _full(key: Key) -> str:
    # `-` stands for no schema: an extension has none.
    return key.name if key.schema in {"", "-"} else f"{key.schema}.{key.name}"


def _lines(first: Sequence[str], second: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines that only one of two objects has."""
    return (
        tuple(line.strip() for line in first if line not in second),
        tuple(line.strip() for line in second if line not in first),
    )


def _renamed(
    left: Mapping[Key, tuple[str, ...]], right: Mapping[Key, tuple[str, ...]]
) -> Iterator[tuple[Key, Key]]:
    """Yield pairs of objects that are alike but for their own name."""
    free = list(right)
    for key, lines in left.items():
        plain = _nameless(key, lines)
        for other in free:
            if (key.kind, key.schema) == (other.kind, other.schema) and plain == _nameless(
                other, right[other]
            ):
                free.remove(other)
                yield key, other
                break


def _nameless(key: Key, lines: Sequence[str]) -> tuple[str, ...]:
    # A constraint's entry is "table name"; the table has to be the same.
    parent, _, own = key.name.rpartition(" ")
    return (parent, *(line.replace(own, "*") for line in lines))
