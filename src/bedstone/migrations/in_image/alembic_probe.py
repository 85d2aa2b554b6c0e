"""Ask Alembic for its migrations; runs by the Python that has it, in the working directory."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import sys
import textwrap
from typing import Any, Sequence

from bedstone.migrations.in_image.common import (
    TABLES,
    accepted,
    emit,
    first_line,
    mentioned,
    only_reads,
    question,
)

# Set for a second Python, so that it doesn't look for a third.
AGAIN = "BEDSTONE_PROBE_AGAIN"


def main() -> None:
    """Make Alembic read its own options, inspect the database and print the report."""
    asked = question()
    # This script's directory: nothing of the app is there.
    del sys.path[0]
    _reach_alembic()
    if asked["module"]:
        # After Alembic is there, so that a directory `alembic` can't stand in for it.
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    from alembic.config import CommandLine
    from alembic.util import CommandError

    class Ask(CommandLine):
        """Alembic's command line, but for what a command does."""

        def run_cmd(self, config: Any, options: Any) -> None:
            del options
            _look(config, asked)

    try:
        Ask(prog="alembic").main([*asked["options"], "upgrade", asked["target"]])
    except CommandError as error:
        sys.exit("Alembic says: " + str(error))


def _reach_alembic() -> None:
    try:
        import alembic.config  # noqa: F401
    except ImportError:
        python = _python_of(shutil.which("alembic"))
        if python is None or os.environ.get(AGAIN):
            sys.exit(
                f"The Python {sys.executable} has no Alembic. Declare the migrate command with the"
                " one that has, like `/opt/venv/bin/python -m alembic upgrade head`."
            )
        os.environ[AGAIN] = "1"
        os.execv(python, [python, os.path.abspath(__file__)])  # noqa: S606, PTH100


def _python_of(program: str | None) -> str | None:
    """Return the interpreter that a program of pip's starts with."""
    if program is None:
        return None
    with open(program, "rb") as file:  # noqa: PTH123
        beginning = file.read(4096).decode("utf-8", "replace")
    # Where its path is too long for a first line, pip lets a shell start it.
    found = re.match(r"#! ?(\S*python[^/\s]*)\n", beginning) or re.match(
        r"#!/bin/sh\n'''exec' [\"']?([^\"'\n]*python[^/\s\"']*)", beginning
    )
    return found.group(1) if found else None


def _look(config: Any, asked: dict[str, Any]) -> None:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(config)
    reports: list[dict[str, Any]] = []

    def see(heads: Any, context: Any) -> list[Any]:
        if not reports:
            reports.append(_report(script, tuple(heads), context, asked))
        return []

    # As `alembic current` does it: the app's env.py connects, and nothing is migrated.
    with EnvironmentContext(
        config, script, fn=see, dont_mutate=True, destination_rev=asked["target"]
    ):
        script.run_env()
    if not reports:
        sys.exit("The app's env.py never called context.run_migrations().")
    emit(reports[0])


def _report(script: Any, heads: tuple[str, ...], context: Any, asked: Any) -> dict[str, Any]:
    from sqlalchemy import event, text
    from sqlalchemy.engine import Engine

    # The newest first; every revision comes before those it builds upon.
    order = [each.revision for each in script.walk_revisions()]
    unknown = [head for head in heads if head not in order]
    ours = _ancestors(script, [head for head in heads if head in order])
    applied = [revision for revision in reversed(order) if revision in ours] + unknown
    event.listen(Engine, "before_cursor_execute", _guard)
    try:
        # With a revision that isn't here Alembic can't find what comes after it.
        pending = [] if unknown else _pending(script, heads, context, asked["target"])
        tables: dict[str, Any] = {}
        if any(each["sql"] for each in pending):
            tables = mentioned(context.connection.execute(text(TABLES)), pending)
    finally:
        event.remove(Engine, "before_cursor_execute", _guard)
    backward = None
    if asked["keep"] is not None:
        backward = Backward(script, applied, asked["keep"], asked["program"]).report()
    return {
        "tool": "alembic",
        "applied": applied,
        "known": list(reversed(order)),
        "pending": pending,
        "tables": tables,
        "backward": backward,
    }


def _guard(*given: Any) -> None:
    only_reads(given[2])


def _ancestors(script: Any, heads: Sequence[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(heads)
    while waiting:
        revision = script.get_revision(waiting.pop())
        if revision.revision not in found:
            found.add(revision.revision)
            waiting += _parents(script, revision)
    return found


def _parents(script: Any, revision: Any) -> list[str]:
    names = [*_as_list(revision.down_revision), *_as_list(revision.dependencies)]
    return [script.get_revision(name).revision for name in names]


def _as_list(names: Any) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)


# --- Forwards ------------------------------------------------------------------------------


def _pending(script: Any, heads: tuple[str, ...], context: Any, target: str) -> list[Any]:
    # On an empty database nothing runs that could be in the way of it, and the SQL of another kind
    # of database is not analysed here.
    with_sql = bool(heads) and context.dialect.name == "postgresql"
    report = []
    for step in script._upgrade_revs(target, heads):
        revision = step.revision
        why_not = _why_not(revision.module)
        sql, opaque = _written(revision.module, context) if with_sql else (None, [])
        report.append(
            {
                "name": revision.revision,
                "title": revision.doc or "",
                "reversible": why_not is None,
                "why_not": why_not,
                "sql": sql,
                "opaque": opaque,
                "accepts": accepted(revision.module),
                "atomic": bool(context.impl.transactional_ddl),
            }
        )
    return report


class Statements:
    """Stands for the file that `alembic upgrade --sql` writes into."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def write(self, text: str) -> None:
        """Take what is one statement, as Alembic writes."""
        if text.strip():
            self.found.append(text.strip())

    def flush(self) -> None:
        """Do nothing; Alembic calls it."""


def _written(module: Any, context: Any) -> tuple[list[str], list[str]]:
    """Return what upgrade() would send to the database, and what it does beyond that."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    statements = Statements()
    options = {
        name: value
        for name, value in context.opts.items()
        if name not in {"fn", "output_encoding", "starting_rev"}
    }
    options.update(as_sql=True, output_buffer=statements)
    offline = MigrationContext(
        context.dialect, context.connection, options, context.environment_context
    )
    opaque = []
    try:
        with Operations.context(offline):
            module.upgrade()
    except Exception as error:
        opaque.append(
            "from some point on upgrade() works with what it reads from the database: "
            + first_line(error)
        )
    return statements.found, opaque


# --- Backwards -----------------------------------------------------------------------------


def _why_not(module: Any) -> str | None:
    downgrade = getattr(module, "downgrade", None)
    if downgrade is None:
        return "it has no downgrade()"
    body = _body(downgrade)
    if body is None:
        return None
    if not body:
        # A merge of branches has nothing to do in either direction.
        upgrade = _body(getattr(module, "upgrade", None))
        return None if upgrade == [] else "its downgrade() is empty"
    if isinstance(body[0], ast.Raise):
        return "its downgrade() only raises an error"
    return None


def _body(function: Any) -> list[ast.stmt] | None:
    """Return the statements of a function that do something; None if they can't be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    first = tree.body[0]
    if not isinstance(first, ast.FunctionDef):
        return None
    return [
        each
        for each in first.body
        if not isinstance(each, ast.Pass)
        and not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
    ]


class Backward:
    """The way back to exactly the revisions that are to be kept."""

    def __init__(
        self, script: Any, applied: list[str], keep: Sequence[str], program: list[str]
    ) -> None:
        self.script = script
        self.applied = applied
        self.keep = set(keep)
        self.program = program
        self.irreversible: list[tuple[str, str]] = []
        self.present = set(applied)

    def report(self) -> dict[str, Any]:
        """Return the revisions to undo, in order, what is in the way, and the commands."""
        for name in sorted(self.keep - self.present):
            self._stop(
                name, "it was applied then and isn't any more; undoing others can't bring it back"
            )
        left = [name for name in reversed(self.applied) if name not in self.keep]
        order: list[str] = []
        commands = []
        known = {each.revision for each in self.script.walk_revisions()}
        for name in self.applied:
            if name not in known:
                self._stop(name, "this image doesn't know it, and Alembic undoes nothing then")
        while left and known.issuperset(self.applied):
            step = self._step(left)
            if step is None:
                for name in left:
                    self._stop(
                        name, "Alembic can't undo it and leave alone what is to stay beside it"
                    )
                break
            target, undone = step
            order += undone
            left = [name for name in left if name not in undone]
            self.present -= set(undone)
            commands.append([*self.program, "downgrade", target])
        for name in order:
            why = _why_not(self.script.get_revision(name).module)
            if why:
                self._stop(name, why)
        return {
            "migrations": order + left,
            "irreversible": self.irreversible,
            "commands": commands,
        }

    def _stop(self, name: str, why: str) -> None:
        self.irreversible.append((name, why))

    def _step(self, left: list[str]) -> tuple[str, list[str]] | None:
        """Return target and effect of a command that undoes only what is to be undone."""
        best: tuple[str, list[str]] | None = None
        for target in self._targets(left):
            undone = self._effect(target)
            if set(undone) <= set(left) and len(undone) > len(best[1] if best else ()):
                best = target, undone
        return best

    def _targets(self, left: list[str]) -> list[str]:
        if self.present == set(left):
            return ["base"]
        found: list[str] = []
        for name in left:
            for parent in _as_list(self.script.get_revision(name).down_revision):
                if parent not in left:
                    found += [parent, f"{name}@{parent}"]
            found.append(f"{name}@-1")
            found.append(f"{name}@base")
        return list(dict.fromkeys(found))

    def _effect(self, target: str) -> list[str]:
        """Return what `alembic downgrade` would undo, in its order."""
        covered = {
            parent
            for name in self.present
            for parent in _parents(self.script, self.script.get_revision(name))
        }
        heads = tuple(sorted(self.present - covered))
        try:
            # The script directory's own way stops at a revision that has no downgrade().
            walk = self.script.revision_map.iterate_revisions
            undone = list(walk(heads, target, select_for_downgrade=True))
        except Exception:
            return []  # it isn't one way, or none
        return [each.revision for each in undone]


main()
