"""Walk through the statements of a plan and record what is incompatible with a schema in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bedstone.migrations import pg_types
from bedstone.migrations.column import Column, column, type_of
from bedstone.migrations.objects import Objects
from bedstone.migrations.report import Table
from bedstone.migrations.rules import BIG_BYTES, BIG_ROWS
from bedstone.migrations.sql import Reader, Statement, Token
from bedstone.migrations.view import selected

_CREATE_WORDS = ("global", "local", "temp", "temporary", "unlogged", "recursive", "materialized",
                 "foreign")  # fmt: skip
_RELATIONS = (("table",), ("foreign", "table"), ("view",), ("materialized", "view"))
# These modes of LOCK TABLE let other sessions write.
_LIGHT_LOCKS = (("access", "share"), ("row", "share"), ("row", "exclusive"))
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
        self._views: dict[str, str] = {}
        self._columns: dict[Place, str] = {}
        self._policies: set[Place] = set()
        self._filled: set[Place] = set()
        self._objects = Objects(self._note, self._withdraw)
        self._in_transaction = False
        self._added: dict[Place, _Added] = {}
        self._types: dict[Place, pg_types.Type] = {}
        self._position = 0
        self._migration = ""
        self._statement = ""

    def begin(self, migration: str, *, atomic: bool) -> None:
        """Begin a migration.

        Args:
            migration: its name.
            atomic: whether the tool runs it in one transaction.

        """
        self._migration = migration
        self._in_transaction = atomic

    def read(self, statement: Statement) -> None:
        """Read the next statement of the plan."""
        self._position += 1
        self._statement = statement.text
        reader = Reader(statement.tokens)
        first = reader.name()
        readers = {
            "create": self._create,
            "drop": self._drop,
            "alter": self._alter,
            "cluster": self._cluster,
            "reindex": self._reindex,
            "refresh": self._refresh,
            "vacuum": self._vacuum,
            "lock": self._lock,
            "truncate": self._truncate,
            "update": self._update,
            "delete": self._delete,
            "revoke": self._objects.revoke,
        }
        if first in {"begin", "start"}:
            self._in_transaction = True
        elif first in {"commit", "end", "rollback"}:
            self._in_transaction = False
        elif first in readers:
            readers[first](reader)

    def notes(self) -> list[Note]:
        """Return what was found, in the order of the plan."""
        unfilled = [
            Note(added.position, added.migration, added.statement, rule, relation)
            for (relation, _), added in self._added.items()
            for rule in _columns_rules(added.column)
        ]
        return sorted(self._notes + unfilled, key=lambda note: note.position)

    # --- statements ---

    def _create(self, reader: Reader) -> None:
        reader.take("or", "replace")
        while any(reader.take(word) for word in _CREATE_WORDS):
            pass
        unique = reader.take("unique")
        if reader.take("index"):
            self._create_index(reader, unique=unique)
        elif reader.take("table"):
            reader.take("if", "not", "exists")
            relation = self._relation(reader)
            if relation not in self._tables or relation in self._dropped:
                self._created.add(relation)
        elif reader.take("view"):
            reader.take("if", "not", "exists")
            self._create_view(self._relation(reader), reader)
        elif reader.take("policy"):
            place = self._policy(reader)
            if place[0] not in self._created:
                self._policies.add(place)
                self._note("row-security", place[0])
        else:
            self._objects.create(reader)

    def _create_index(self, reader: Reader, *, unique: bool) -> None:
        concurrently = reader.take("concurrently")
        reader.take("if", "not", "exists")
        if not reader.sees("on"):
            reader.path()
        reader.take("on")
        reader.take("only")
        relation = self._relation(reader)
        if concurrently:
            self._outside_of_transactions(relation)
        else:
            self._big("blocking-index", relation)
        if reader.take("using"):
            reader.name()
        if unique and not self._spares(relation, reader.group(), unique=True):
            self._note("new-constraint", relation)

    def _create_view(self, relation: str, reader: Reader) -> None:
        """Replace the table or view whose name a view has, if the view has its columns."""
        self._created.add(relation)
        table = self._tables.get(self._views.get(relation, relation))
        found = selected(reader)
        if table is not None and found is not None and not set(table.columns) <= found:
            self._notes = [
                replace(note, rule="drop-column")
                if note.relation == relation and note.rule in {"rename-table", "drop-table"}
                else note
                for note in self._notes
            ]
            return
        for rule in ("rename-table", "drop-table"):
            self._withdraw(rule, relation)

    def _drop(self, reader: Reader) -> None:
        if reader.take("index"):
            if reader.take("concurrently"):
                self._outside_of_transactions("")
            return
        if reader.take("policy"):
            self._drop_policy(reader)
            return
        schema = reader.take("schema")
        if not schema and not any(reader.take(*words) for words in _RELATIONS):
            self._objects.drop(reader)
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

    def _drop_policy(self, reader: Reader) -> None:
        reader.take("if", "exists")
        place = self._policy(reader)
        if place in self._policies:
            self._policies.discard(place)
        else:
            self._take_away("row-security", place[0])

    def _alter(self, reader: Reader) -> None:
        if reader.take("policy"):
            self._take_away("row-security", self._policy(reader)[0])
            return
        if not any(reader.take(*words) for words in _RELATIONS):
            self._objects.alter(reader)
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
        elif any(reader.take(word, "row", "level") for word in ("enable", "force")):
            self._take_away("row-security", relation)
        elif reader.take("detach", "partition"):
            self._detach(reader, relation)
        elif reader.take("add"):
            self._add(reader, relation)
        elif reader.take("drop"):
            self._drop_column(reader, relation)
        elif reader.take("alter"):
            reader.take("column")
            self._alter_column(reader, (relation, reader.name() or ""))
        return relation

    def _detach(self, reader: Reader, relation: str) -> None:
        self._relation(reader)
        if reader.take("concurrently"):
            self._outside_of_transactions(relation)
        self._take_away("delete-rows", relation)

    def _cluster(self, reader: Reader) -> None:
        reader.group()
        reader.take("verbose")
        self._rewrite(self._relation(reader))

    def _reindex(self, reader: Reader) -> None:
        reader.group()
        table = reader.take("table")
        if not table and not any(reader.take(w) for w in ("index", "schema", "database", "system")):
            return
        if reader.take("concurrently"):
            self._outside_of_transactions("")
        elif table:
            self._big("blocking-index", self._relation(reader))
        else:
            # Whose index it is, and how big that table, is not in the report.
            self._note("blocking-index", "")

    def _refresh(self, reader: Reader) -> None:
        if reader.take("materialized", "view") and not reader.take("concurrently"):
            relation = self._relation(reader)
            if relation not in self._created and relation not in self._tables:
                self._note("blocking-refresh", relation)
            else:
                self._big("blocking-refresh", relation)

    def _vacuum(self, reader: Reader) -> None:
        full = reader.take("full")
        for option in Reader(reader.group()).parts():
            words = [token.value for token in option]
            full = full or (words[0] == "full" and words[1:] not in (["false"], ["off"], ["0"]))
        for word in ("freeze", "verbose", "analyze"):
            reader.take(word)
        relation = self._relation(reader)
        if full and relation:
            self._rewrite(relation)
        elif full:
            self._note("table-rewrite", "")

    def _lock(self, reader: Reader) -> None:
        reader.take("table")
        locked = []
        while not reader.at_end:
            reader.take("only")
            locked.append(self._relation(reader))
            reader.take("*")
            if not reader.take(","):
                break
        if reader.take("in") and any(reader.sees(*mode, "mode") for mode in _LIGHT_LOCKS):
            return
        for relation in locked:
            self._big("lock-table", relation)

    def _truncate(self, reader: Reader) -> None:
        reader.take("table")
        for part in reader.parts():
            each = Reader(part)
            each.take("only")
            relation = self._relation(each)
            self._take_away("delete-rows", relation)

    def _update(self, reader: Reader) -> None:
        reader.take("only")
        relation = self._relation(reader)
        if not _has_where(reader):
            self._big("update-all-rows", relation)

    def _delete(self, reader: Reader) -> None:
        reader.take("from")
        reader.take("only")
        relation = self._relation(reader)
        if not _has_where(reader):
            self._take_away("delete-rows", relation)

    def _policy(self, reader: Reader) -> Place:
        name = reader.name() or ""
        reader.take("on")
        return self._relation(reader), name

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
            self._columns[relation, new] = self._columns.get((relation, old), old)
            self._note("rename-column", relation)
        return relation

    def _renamed(self, old: str, new: str) -> str:
        if old in self._created:
            self._created.discard(old)
            self._created.add(new)
        else:
            self._original[new] = self._original.get(old, old)
            self._views[old] = self._original[new]
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
        unique = reader.sees("unique")
        keyed = unique or reader.sees("primary", "key")
        ready = prebuilt = False
        columns: tuple[Token, ...] = ()
        while not reader.at_end:
            if reader.sees("("):
                columns = columns or reader.group()
                reader.group()
            elif keyed and reader.take("using", "index"):
                ready = prebuilt = not reader.sees("tablespace")
            elif not keyed and reader.take("not", "valid"):
                ready = True
            else:
                reader.skip()
        if not ready:
            self._big("blocking-constraint", relation)
        # An index that is there already has refused such rows; one of this plan was noted itself.
        if not prebuilt and not self._spares(relation, columns, unique=unique):
            self._note("new-constraint", relation)

    def _spares(self, relation: str, definition: tuple[Token, ...], *, unique: bool) -> bool:
        """Return whether a constraint can't refuse what the running release writes.

        So it is when it is about columns of the plan's own, which the running release leaves
        out: they are NULL or have their default, which a unique constraint takes only once.

        Args:
            relation: the table.
            definition: what stands in the constraint's parentheses.
            unique: whether two rows must not have the same value.

        """
        if relation in self._created:
            return True
        names = [token.value for token in definition if token.kind in {"word", "name"}]
        added = [self._added.get((relation, name)) for name in names]
        new = [each.column for each in added if each is not None]
        if not new:
            return False
        if unique:
            return any(not each.default or each.rewrites for each in new)
        table = self._tables.get(self._original.get(relation, relation))
        return table is not None and not any(name in table.columns for name in names)

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
            if self._is_old(place) and self._is_required(place):
                self._note("drop-not-null", place[0])
        elif reader.take("set", "default"):
            self._change_added(place, default=not reader.sees("null"))
            self._filled.add(place)
        elif any(reader.take("drop", word) for word in ("default", "identity", "expression")):
            self._change_added(place, default=False)
            # Django sets a default for the rows of today and drops it in the same migration.
            if self._is_old(place) and self._is_required(place) and place not in self._filled:
                self._note("drop-default", place[0])
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

    def _is_old(self, place: Place) -> bool:
        """Return whether a column was there before the plan."""
        return place not in self._added and place[0] not in self._created

    def _is_required(self, place: Place) -> bool:
        """Return whether a column takes no NULL now, as far as is known."""
        table = self._tables.get(self._original.get(place[0], place[0]))
        return table is None or self._columns.get(place, place[1]) in table.required

    def _outside_of_transactions(self, relation: str) -> None:
        if self._in_transaction:
            self._note("concurrently-in-transaction", relation)

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

    def _take_away(self, rule: str, relation: str) -> None:
        """Note what matters only to a table that the running release has."""
        if relation and relation not in self._created:
            self._note(rule, relation)

    def _withdraw(self, rule: str, relation: str) -> None:
        self._notes = [
            note for note in self._notes if (note.rule, note.relation) != (rule, relation)
        ]

    def _note(self, rule: str, relation: str) -> None:
        self._notes.append(Note(self._position, self._migration, self._statement, rule, relation))


def _columns_rules(added: Column) -> list[str]:
    """Return the rules that a column of the plan's own breaks as it stands at the plan's end."""
    found = []
    if added.not_null and not added.default:
        found.append("not-null-without-default")
    if added.unique and added.default and not added.rewrites:
        found.append("new-constraint")
    return found


def _has_where(reader: Reader) -> bool:
    while not reader.at_end:
        if reader.take("where"):
            return True
        if not reader.group():
            reader.skip()
    return False


def _casts_itself(parts: list[tuple[Token, ...]], name: str, new: pg_types.Type) -> bool:
    """Return whether a USING is the column itself, cast to its new type or not at all."""
    if len(parts) != 1 or parts[0][0].value != name:
        return False
    rest = parts[0][1:]
    return not rest or (rest[0].value == "::" and pg_types.of_tokens(rest[1:]) == new)
