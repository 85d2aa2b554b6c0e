"""Ask Django for its migrations; runs inside `manage.py shell`."""

from __future__ import annotations

import sys
from typing import Any, Callable, Iterator, Tuple

from django.db import connections
from django.db.migrations import RemoveField, RunPython, SeparateDatabaseAndState
from django.db.migrations.exceptions import AmbiguityError
from django.db.migrations.executor import MigrationExecutor

from bedstone.migrations.in_image.common import (
    TABLES,
    accepted,
    emit,
    first_line,
    mentioned,
    only_reads,
    question,
)

Key = Tuple[str, str]


def main() -> None:
    """Inspect the default database and print the report."""
    asked = question()
    connection = connections["default"]
    with connection.execute_wrapper(_guard):
        executor = MigrationExecutor(connection)
        loader = executor.loader
        _refuse_broken(loader, connection)
        applied = _applied(executor.recorder)
        pending = _pending(executor, connection, asked["targets"], with_sql=bool(applied))
        tables: dict[str, Any] = {}
        if any(each["sql"] for each in pending):
            with connection.cursor() as cursor:
                cursor.execute(TABLES)
                tables = mentioned(cursor.fetchall(), pending)
        backward = None
        if asked["keep"] is not None:
            kept = {tuple(each.split(".", 1)) for each in asked["keep"]}
            backward = Backward(loader, applied, kept, asked["program"], asked["options"]).report()
    emit(
        {
            "tool": "django",
            "applied": [_name(key) for key in applied],
            "known": sorted(_name(key) for key in loader.disk_migrations),
            "pending": pending,
            "tables": tables,
            "backward": backward,
        }
    )


def _guard(execute: Callable[..., Any], sql: Any, params: Any, many: Any, context: Any) -> Any:
    only_reads(sql)
    return execute(sql, params, many, context)


def _refuse_broken(loader: Any, connection: Any) -> None:
    # As `migrate` itself does, before anything is changed.
    loader.check_consistent_history(connection)
    conflicts = loader.detect_conflicts()
    if conflicts:
        names = "; ".join(
            "{} in {}".format(", ".join(conflicts[app]), app) for app in sorted(conflicts)
        )
        sys.exit(
            "Conflicting migrations, several are the last of their app: " + names + ". Run"
            " `manage.py makemigrations --merge` and commit what it writes."
        )


def _applied(recorder: Any) -> list[Key]:
    if not recorder.has_table():
        return []
    return list(recorder.migration_qs.order_by("id").values_list("app", "name"))


# --- Forwards ------------------------------------------------------------------------------


def _pending(
    executor: Any, connection: Any, targets: Any, *, with_sql: bool
) -> list[dict[str, Any]]:
    plan = executor.migration_plan(_targets(executor.loader, targets))
    undone = [_name(_key(migration)) for migration, backwards in plan if backwards]
    if undone:
        sys.exit(
            "The declared migrate command would undo {}. A release goes forwards only.".format(
                ", ".join(undone)
            )
        )
    migrations = [migration for migration, _ in plan]
    # On an empty database nothing runs that could be in the way of it, and the SQL of another kind
    # of database is not analysed here.
    with_sql = with_sql and bool(migrations) and connection.vendor == "postgresql"
    written = _written(executor, connection, migrations) if with_sql else {}
    report = []
    for migration in migrations:
        why_not = _why_not(executor.loader, migration)
        sql, opaque = written.get(_key(migration), (None, None))
        report.append(
            {
                "name": _name(_key(migration)),
                "reversible": why_not is None,
                "why_not": why_not,
                "sql": sql,
                "opaque": _in_python(migration.operations) if opaque is None else opaque,
                "accepts": accepted(migration),
                "atomic": bool(migration.atomic),
            }
        )
    return report


def _targets(loader: Any, targets: list[list[str | None]] | None) -> list[Any]:
    if targets is None:
        return list(loader.graph.leaf_nodes())
    found: list[Any] = []
    for label, name in targets:
        if name is None:
            found += loader.graph.leaf_nodes(label)
        elif name == "zero":
            found.append((label, None))
        else:
            found.append(_key(loader.get_migration_by_prefix(label, name)))
    return found


def _written(executor: Any, connection: Any, migrations: list[Any]) -> dict[Key, tuple[Any, Any]]:
    state = executor._create_project_state(with_applied_migrations=True)
    state.apps  # noqa: B018 - rendered once; every operation clones it
    found = {}
    for migration in migrations:
        opaque: list[str] = []
        sql: list[str] | None = None
        editor = connection.schema_editor(collect_sql=True, atomic=False)
        try:
            with editor:
                for operation in migration.operations:
                    _write(operation, migration.app_label, editor, state, opaque)
            sql = [str(each) for each in editor.collected_sql]
        except Exception as error:
            opaque.append("what is left for its end can't be written as SQL: " + first_line(error))
        found[_key(migration)] = (sql, opaque)
    return found


def _write(operation: Any, label: str, editor: Any, state: Any, opaque: list[str]) -> None:
    before = state.clone()
    operation.state_forwards(label, state)
    if isinstance(operation, SeparateDatabaseAndState):
        # Its own method would run the Python functions among its operations.
        for part in operation.database_operations:
            _write(part, label, editor, before, opaque)
    elif not operation.reduces_to_sql:
        opaque += _in_python([operation])
    else:
        try:
            operation.database_forwards(label, editor, before, state)
        except Exception as error:
            opaque.append(f"{_words(operation)} can't be written as SQL: {first_line(error)}")


def _leaves(operations: Any) -> Iterator[Any]:
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _leaves(operation.database_operations)
        else:
            yield operation


def _in_python(operations: Any) -> list[str]:
    return [_words(each) for each in _leaves(operations) if _is_opaque(each)]


def _is_opaque(operation: Any) -> bool:
    """Return whether SQL doesn't say what an operation does."""
    nothing = getattr(operation, "code", None) is RunPython.noop
    return not operation.reduces_to_sql and not nothing


def _words(operation: Any) -> str:
    code = getattr(operation, "code", None)
    name = getattr(code, "__name__", None)
    kind = type(operation).__name__
    return f"{kind}({name})" if name else f"{kind}: {operation.describe()}"


# --- Backwards -----------------------------------------------------------------------------


def _why_not(loader: Any, migration: Any) -> str | None:
    for operation in _leaves(migration.operations):
        if not operation.reversible:
            kind = type(operation).__name__
            missing = {"RunPython": "reverse_code", "RunSQL": "reverse_sql"}.get(kind)
            what = f"has no {missing}" if missing else "can't be undone"
            return f"{_words(operation)} {what}"
    if any(isinstance(each, RemoveField) for each in _leaves(migration.operations)):
        state = loader.project_state(_key(migration), at_end=False)
        return _column_without_values(migration.operations, migration.app_label, state)
    return None


def _column_without_values(operations: Any, label: str, state: Any) -> str | None:
    """Return why a removed column can't come back, if the rows have no value for it."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            why = _column_without_values(operation.database_operations, label, state.clone())
            if why:
                return why
        elif isinstance(operation, RemoveField):
            model = state.models[label, operation.model_name.lower()]
            if _needs_value(dict(model.fields)[operation.name]):
                return (
                    f"undoing it brings back {operation.model_name}.{operation.name}, which takes"
                    " no NULL and has no default: the rows of today have no value for it"
                )
        operation.state_forwards(label, state)
    return None


def _needs_value(field: Any) -> bool:
    """Return whether a column can't be added to a table with rows, as the editor would."""
    return not (
        field.many_to_many
        or field.null
        or field.has_default()
        or getattr(field, "auto_now", False)
        or getattr(field, "auto_now_add", False)
        or getattr(field, "generated", False)
        or (field.blank and field.empty_strings_allowed)
        or _has_database_default(field)
    )


def _has_database_default(field: Any) -> bool:
    has = getattr(field, "has_db_default", None)
    if has is not None:
        return bool(has() if callable(has) else has)
    default = getattr(field, "db_default", None)
    return default is not None and getattr(default, "__name__", "") != "NOT_PROVIDED"


class Backward:
    """The way back to exactly the migrations that are to be kept."""

    def __init__(
        self,
        loader: Any,
        applied: list[Key],
        keep: set[Any],
        program: list[str],
        options: list[str],
    ) -> None:
        self.loader = loader
        self.graph = loader.graph
        self.applied = applied
        self.recorded = set(applied)
        self.keep = self._with_replaced(keep)
        self.program = program
        self.options = options
        self.irreversible: list[tuple[str, str]] = []
        # What the graph takes for applied: of squashed migrations only the one that
        # stands for them.
        self.present = {key for key in loader.applied_migrations if key in self.graph.nodes}

    def report(self) -> dict[str, Any]:
        """Return the migrations to undo, in order, what is in the way, and the commands."""
        left = self._to_undo()
        order: list[Key] = []
        commands = []
        while left:
            step = self._step(left)
            if step is None:
                break
            label, target, undone = step
            order += undone
            left = [key for key in left if key not in undone]
            self.present -= set(undone)
            commands.append([*self.program, "migrate", label, target, *self.options, "--noinput"])
        for key in left:
            self._stop(key, "Django can't undo it and leave alone what is to stay beside it")
        for key in order:
            why = _why_not(self.loader, self.graph.nodes[key])
            if why:
                self._stop(key, why)
        return {
            "migrations": [_name(key) for key in order + left],
            "irreversible": self.irreversible,
            "commands": commands,
        }

    def _with_replaced(self, keep: set[Any]) -> set[Any]:
        # Applying a squashed migration records those that it replaces as well.
        found = set(keep)
        for key, squashed in self.loader.replacements.items():
            if key in keep:
                found |= self.recorded.intersection(map(tuple, squashed.replaces))
        return found

    def _stop(self, key: Key, why: str) -> None:
        self.irreversible.append((_name(key), why))

    def _stays(self, key: Key) -> bool:
        if key in self.keep:
            return True
        # A squashed migration stands for those it replaces; recording it changes nothing.
        squashed = self.loader.replacements.get(key)
        return squashed is not None and all(self._stays(tuple(k)) for k in squashed.replaces)

    def _to_undo(self) -> list[Key]:
        """Return the graph's migrations to undo, the newest first."""
        for key in sorted(self.keep - self.recorded):
            squashed = self.loader.replacements.get(key)
            if squashed is None or not self.recorded.issuperset(map(tuple, squashed.replaces)):
                self._stop(
                    key,
                    "it was applied then and isn't any more; undoing others can't bring it back",
                )
        found: list[Key] = []
        for key in reversed(self.applied):
            if self._stays(key):
                continue
            node = self._node(key)
            if node is None:
                self._stop(key, "this image doesn't know it")
            elif node != key and any(
                self._stays(tuple(each)) for each in self.graph.nodes[node].replaces
            ):
                self._stop(key, f"it is squashed into {_name(node)} with others that stay")
            elif node not in found and node in self.present:
                found.append(node)
        return found

    def _node(self, key: Key) -> Key | None:
        """Return the graph's migration that stands for a recorded one."""
        if key in self.graph.nodes:
            return key
        replacing = [
            node for node in self.present if key in map(tuple, self.graph.nodes[node].replaces)
        ]
        return replacing[0] if replacing else None

    def _step(self, left: list[Key]) -> tuple[str, str, list[Key]] | None:
        """Return app, target and effect of a command that undoes only what is to be undone."""
        for label in dict.fromkeys(key[0] for key in left):
            kept = sorted(key for key in self.present if key[0] == label and key not in left)
            targets = kept or [(label, "zero")]
            for target in targets:
                undone = self._effect(target, whole=not kept)
                if undone and set(undone) <= set(left) and (not kept or self._exact(target)):
                    return label, target[1], undone
        return None

    def _effect(self, target: Key, *, whole: bool) -> list[Key]:
        # As MigrationExecutor.migration_plan() has it.
        starts = (
            [key for key in self.graph.root_nodes() if key[0] == target[0]]
            if whole
            else sorted(
                child.key
                for child in self.graph.node_map[target].children
                if child.key[0] == target[0]
            )
        )
        undone: list[Key] = []
        for start in starts:
            for key in self.graph.backwards_plan(start):
                if key in self.present and key not in undone:
                    undone.append(key)
        return undone

    def _exact(self, target: Key) -> bool:
        try:
            self.loader.get_migration_by_prefix(*target)
        except AmbiguityError:
            return False
        return True


def _key(migration: Any) -> Key:
    return migration.app_label, migration.name


def _name(key: Key) -> str:
    return "{}.{}".format(*key)


main()
