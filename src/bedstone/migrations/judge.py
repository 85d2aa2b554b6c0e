"""Walk through the statements of a plan and note what a schema in use can't take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bedstone.migrations import pg_types
from bedstone.migrations.column import Column, column, type_of
from bedstone.migrations.report import Table
from bedstone.migrations.rules import BIG_BYTES, BIG_ROWS
from bedstone.migrations.sql import Reader, Statement, Token

_CREATE_WORDS = ("global", "local", "temp", "temporary", "unlogged", "recursive", "materialized",
                 "foreign", "unique")  # fmt: skip
_RELATIONS = (("table",), ("foreign", "table"), ("view",), ("materialized", "view"))
_REWRITES = (("set", "logged"), ("set", "unlogged"), ("set", "tablespace"), ("set", "access"))

# A table and a column of it.
Place = tuple[str, str]


@dataclass(frozen=True)
class Note:
    """Something found: which rule, in which migration and statement.

    Attributes:
        position: the statement's place in the plan.
        migration: whose it is.
        statement: the statement.
        rule: its name.
        relation: the table or view it is about.

    """

    position: int
    migration: str
    statement: str
    rule: str
    relation: str


@dataclass(frozen=True)
class _Added:
    """A column that the plan itself adds, as far as it stands by now."""

    position: int
    migration: str
    statement: str
    column: Column


class Judge:
    """Reads a plan's statements one after the other and remembers what they made."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._notes: list[Note] = []
        self._created: set[str] = set()
        self._dropped: set[str] = set()
        self._original: dict[str, str] = {}
        self._added: dict[Place, _Added] = {}
        self._types: dict[Place, pg_types.Type] = {}
        self._position = 0
        self._migration = ""
        self._statement = ""

    def read(self, migration: str, statement: Statement) -> None:
        """Read the next statement of the plan."""
        self._position += 1
        self._migration = migration
        self._statement = statement.text
        reader = Reader(statement.tokens)
        if reader.take("create"):
            self._create(reader)
        elif reader.take("drop"):
            self._drop(reader)
        elif reader.take("alter"):
            self._alter(reader)
        elif reader.take("cluster"):
            reader.take("verbose")
            self._rewrite(self._relation(reader))
        elif reader.take("reindex"):
            reader.group()
            if reader.take("table") and not reader.take("concurrently"):
                self._big("blocking-index", self._relation(reader))

    def notes(self) -> list[Note]:
        """Return what was found, in the order of the plan."""
        unfilled = [
            Note(added.position, added.migration, added.statement, "not-null-without-default",
                 relation)
            for (relation, _), added in self._added.items()
            if added.column.not_null and not added.column.default
        ]  # fmt: skip
        return sorted(self._notes + unfilled, key=lambda note: note.position)

    # --- statements ---

    def _create(self, reader: Reader) -> None:
        reader.take("or", "replace")
        while any(reader.take(word) for word in _CREATE_WORDS):
            pass
        if reader.take("index"):
            self._create_index(reader)
        elif reader.take("table"):
            reader.take("if", "not", "exists")
            relation = self._relation(reader)
            if relation not in self._tables or relation in self._dropped:
                self._created.add(relation)
        elif reader.take("view"):
            reader.take("if", "not", "exists")
            relation = self._relation(reader)
            self._created.add(relation)
            # Old code finds under the old name what it looks for.
            self._notes = [
                note
                for note in self._notes
                if note.relation != relation or note.rule not in {"rename-table", "drop-table"}
            ]

    def _create_index(self, reader: Reader) -> None:
        concurrently = reader.take("concurrently")
        reader.take("if", "not", "exists")
        if not reader.sees("on"):
            reader.path()
        reader.take("on")
        reader.take("only")
        if not concurrently:
            self._big("blocking-index", self._relation(reader))

    def _drop(self, reader: Reader) -> None:
        schema = reader.take("schema")
        if not schema and not any(reader.take(*words) for words in _RELATIONS):
            return
        reader.take("if", "exists")
        while True:
            relation = self._relation(reader)
            if relation in self._created:
                self._created.discard(relation)
                self._forget(relation)
            elif relation:
                self._dropped.add(relation)
                self._forget(relation)
                self._note("drop-table", relation)
            if not reader.take(","):
                return

    def _alter(self, reader: Reader) -> None:
        if reader.take("type"):
            reader.path()
            if reader.take("rename", "value"):
                self._note("rename-value", "")
            return
        if not any(reader.take(*words) for words in _RELATIONS):
            return
        reader.take("if", "exists")
        reader.take("only")
        relation = self._relation(reader)
        reader.take("*")
        for action in reader.parts():
            relation = self._action(Reader(action), relation)

    def _action(self, reader: Reader, relation: str) -> str:
        """Read one action of ALTER TABLE; return the table's name after it."""
        if reader.take("rename"):
            return self._rename(reader, relation)
        if reader.take("set", "schema"):
            schema = reader.name() or ""
            moved = f"{schema}.{relation.rpartition('.')[2]}"
            return self._renamed(relation, moved)
        if any(reader.take(*words) for words in _REWRITES):
            self._rewrite(relation)
        elif reader.take("add"):
            self._add(reader, relation)
        elif reader.take("drop"):
            self._drop_column(reader, relation)
        elif reader.take("alter"):
            reader.take("column")
            name = reader.name()
            if name is not None:
                self._alter_column(reader, (relation, name))
        return relation

    # --- actions of ALTER TABLE ---

    def _rename(self, reader: Reader, relation: str) -> str:
        if reader.take("constraint"):
            return relation
        if reader.take("to"):
            new = reader.name() or ""
            schema = relation.rpartition(".")[0]
            return self._renamed(relation, f"{schema}.{new}" if schema else new)
        reader.take("column")
        old = reader.name()
        reader.take("to")
        new = reader.name() or ""
        if old is None:
            return relation
        kind = self._type((relation, old))
        if kind is not None:
            self._types[relation, new] = kind
        added = self._added.pop((relation, old), None)
        if added is not None:
            self._added[relation, new] = added
        elif relation not in self._created:
            self._note("rename-column", relation)
        return relation

    def _renamed(self, old: str, new: str) -> str:
        if old in self._created:
            self._created.discard(old)
            self._created.add(new)
        else:
            self._original[new] = self._original.get(old, old)
            self._note("rename-table", old)
        for (relation, name), added in list(self._added.items()):
            if relation == old:
                self._added[new, name] = self._added.pop((relation, name), added)
        for (relation, name), kind in list(self._types.items()):
            if relation == old:
                self._types[new, name] = kind
        return new

    def _add(self, reader: Reader, relation: str) -> None:
        named = reader.take("constraint")
        if named:
            reader.name()
        if named or self._sees_constraint(reader):
            self._add_constraint(reader, relation)
            return
        reader.take("column")
        reader.take("if", "not", "exists")
        found = column(reader)
        if found is None or relation in self._created:
            return
        self._added[relation, found.name] = self._as_added(found)
        self._types[relation, found.name] = pg_types.of_tokens(found.type)
        if found.rewrites:
            self._rewrite(relation)
        if found.checked:
            self._big("blocking-constraint", relation)

    @staticmethod
    def _sees_constraint(reader: Reader) -> bool:
        return (
            any(reader.sees(word) for word in ("check", "unique"))
            or any(reader.sees(*words) for words in (("primary", "key"), ("foreign", "key")))
            or any(reader.sees("exclude", word) for word in ("using", "("))
            or reader.sees("not", "null")
        )

    def _add_constraint(self, reader: Reader, relation: str) -> None:
        if reader.take("not", "null"):
            name = reader.name()
            if name is not None:
                self._set_not_null((relation, name))
            return
        keyed = reader.sees("unique") or reader.sees("primary", "key")
        ready = False
        while not reader.at_end:
            if reader.sees("("):
                reader.group()
            elif keyed and reader.take("using", "index"):
                ready = not reader.sees("tablespace")
            elif not keyed and reader.take("not", "valid"):
                ready = True
            else:
                reader.skip()
        if not ready:
            self._big("blocking-constraint", relation)

    def _drop_column(self, reader: Reader, relation: str) -> None:
        if reader.take("constraint"):
            return
        reader.take("column")
        perhaps = reader.take("if", "exists")
        name = reader.name()
        if name is None or relation in self._created:
            return
        if self._added.pop((relation, name), None) is not None:
            return
        if not (perhaps and self._lacks(relation, name)):
            self._note("drop-column", relation)

    def _alter_column(self, reader: Reader, place: Place) -> None:
        if reader.take("set", "not", "null"):
            self._set_not_null(place)
        elif reader.take("drop", "not", "null"):
            self._change_added(place, not_null=False)
        elif reader.take("set", "default"):
            self._change_added(place, default=not reader.sees("null"))
        elif reader.take("drop", "default"):
            self._change_added(place, default=False)
        elif reader.take("add", "generated"):
            self._change_added(place, default=True)
        elif reader.take("set", "data", "type") or reader.take("type"):
            self._change_type(reader, place)

    def _set_not_null(self, place: Place) -> None:
        added = self._added.get(place)
        if added is not None:
            self._added[place] = self._as_added(replace(added.column, not_null=True))
        elif place[0] not in self._created:
            self._note("set-not-null", place[0])

    def _change_added(
        self, place: Place, *, not_null: bool | None = None, default: bool | None = None
    ) -> None:
        added = self._added.get(place)
        if added is None:
            return
        changed = replace(
            added.column,
            not_null=added.column.not_null if not_null is None else not_null,
            default=added.column.default if default is None else default,
        )
        self._added[place] = replace(added, column=changed)

    def _change_type(self, reader: Reader, place: Place) -> None:
        relation, name = place
        new = pg_types.of_tokens(type_of(reader))
        collated = reader.take("collate") and bool(reader.path())
        converted = reader.take("using") and not _casts_itself(reader.parts(), name, new)
        old = self._type(place)
        self._types[place] = new
        if relation in self._created or place in self._added:
            return
        cost = "change" if old is None or converted else pg_types.change(old, new)
        if cost == "change":
            self._note("type-change", relation)
        elif cost == "rewrite" or collated:
            self._rewrite(relation)

    # --- what is known ---

    def _relation(self, reader: Reader) -> str:
        """Take a table's name; return it as the report has it."""
        path = reader.path()
        if not path:
            return ""
        name = path[-1]
        full = ".".join(path[-2:])
        # The report has the schema of those alone that aren't found without it.
        plain = path[-2:-1] in {(), ("public",)} or name in self._tables
        return name if plain and full not in self._tables else full

    def _lacks(self, relation: str, name: str) -> bool:
        """Return whether a known table has no such column."""
        table = self._tables.get(self._original.get(relation, relation))
        return table is not None and name not in table.columns and not self._type((relation, name))

    def _type(self, place: Place) -> pg_types.Type | None:
        if place in self._types:
            return self._types[place]
        relation, name = place
        table = self._tables.get(self._original.get(relation, relation))
        text = table.columns.get(name) if table else None
        return pg_types.parse(text) if text else None

    def _as_added(self, found: Column) -> _Added:
        return _Added(self._position, self._migration, self._statement, found)

    def _forget(self, relation: str) -> None:
        self._added = {key: each for key, each in self._added.items() if key[0] != relation}
        self._types = {key: each for key, each in self._types.items() if key[0] != relation}

    def _rewrite(self, relation: str) -> None:
        self._big("table-rewrite", relation)

    def _big(self, rule: str, relation: str) -> None:
        """Note what matters only where much has to be read or written."""
        table = self._tables.get(self._original.get(relation, relation))
        if relation in self._created or table is None:
            return
        if table.rows >= BIG_ROWS or table.bytes >= BIG_BYTES:
            self._note(rule, relation)

    def _note(self, rule: str, relation: str) -> None:
        self._notes.append(Note(self._position, self._migration, self._statement, rule, relation))


def _casts_itself(parts: list[tuple[Token, ...]], name: str, new: pg_types.Type) -> bool:
    """Return whether a USING is the column itself, cast to its new type or not at all."""
    if len(parts) != 1 or parts[0][0].value != name:
        return False
    rest = parts[0][1:]
    return not rest or (rest[0].value == "::" and pg_types.of_tokens(rest[1:]) == new)
