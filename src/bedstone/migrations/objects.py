"""Record what a plan does to objects other than tables: functions, types, privileges, policies."""

from __future__ import annotations

from collections.abc import Callable

from bedstone.migrations.sql import Reader, Token

# Objects that running code may name. A dropped trigger, index, rule or statistics object
# leaves its queries valid.
_KINDS = ("function", "procedure", "routine", "aggregate", "sequence", "type", "domain",
          "extension", "operator", "collation", "cast", "schema")  # fmt: skip
# One name space in PostgreSQL, whatever word a statement uses.
_ROUTINES = {"procedure": "function", "routine": "function", "aggregate": "function"}
_TYPES = {"domain": "type"}

Note = Callable[[str, str], None]
Withdraw = Callable[[str, str], None]


class Objects:
    """Follows the objects that a plan makes, drops and renames.

    Args:
        note: takes a rule and the object that it is about.
        withdraw: takes back an earlier note of the same rule and object.

    """

    def __init__(self, note: Note, withdraw: Withdraw) -> None:
        self._note = note
        self._withdraw = withdraw
        self._created: set[str] = set()

    def create(self, reader: Reader) -> None:
        """Read `CREATE [OR REPLACE]` of an object, from its kind on."""
        kind = _kind(reader)
        if kind is None:
            return
        reader.take("if", "not", "exists")
        known = _known(kind, reader)
        self._created.add(known)
        # A function that is dropped and created in one plan is there for the running release.
        self._withdraw("drop-object", known)

    def drop(self, reader: Reader) -> None:
        """Read `DROP` of one or more objects, from the kind on."""
        if reader.take("owned", "by"):
            self._note("revoke", _word(reader.peek()))
            return
        kind = _kind(reader)
        if kind is None:
            return
        reader.take("if", "exists")
        for part in reader.parts():
            known = _known(kind, Reader(part))
            if known in self._created:
                self._created.discard(known)
            else:
                self._note("drop-object", known)

    def alter(self, reader: Reader) -> None:
        """Read `ALTER` of an object, from its kind on."""
        if reader.take("default", "privileges"):
            return
        kind = _kind(reader)
        if kind is None:
            return
        known = _known(kind, reader)
        reader.group()
        if known in self._created:
            if reader.take("rename", "to"):
                self._created.add(_known(kind, reader))
            return
        if reader.take("rename", "value"):
            self._note("rename-value", "")
        elif reader.take("rename", "to") or reader.sees("set", "schema"):
            self._note("rename-object", known)
        elif any(reader.take(*words) for words in (("rename", "attribute"), ("drop", "attribute"))):
            self._note("type-change", known)
        elif reader.take("set", "not", "null"):
            self._note("set-not-null", known)
        elif reader.take("add") and not _not_valid_null(reader):
            self._note("new-constraint", known)

    def revoke(self, reader: Reader) -> None:
        """Read `REVOKE`; a grant option alone is no right that the app uses."""
        if not reader.take("grant", "option", "for"):
            self._note("revoke", _word(reader.peek()))


def _kind(reader: Reader) -> str | None:
    reader.take("procedural", "language")
    for kind in _KINDS:
        if reader.take(kind):
            return kind
    return None


def _known(kind: str, reader: Reader) -> str:
    """Return an object's kind and name, as all statements about it have them."""
    path = reader.path()
    if path[:1] == ("public",):
        path = path[1:]
    name = ".".join(path) or _word(reader.peek())
    return f"{_ROUTINES.get(kind) or _TYPES.get(kind) or kind} {name}"


def _word(token: Token | None) -> str:
    return token.value if token is not None else ""


def _not_valid_null(reader: Reader) -> bool:
    """Return whether ADD is a new value or attribute, which takes nothing away."""
    return reader.sees("value") or reader.sees("attribute")
