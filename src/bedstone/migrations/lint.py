"""Judge whether pending migrations are compatible with the serving release."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.migrations.judge import Judge, Note
from bedstone.migrations.rules import RULES
from bedstone.migrations.sql import Reader, statements

if TYPE_CHECKING:
    from bedstone.migrations.report import Pending, Report

_SHOWN_CHARACTERS = 160
# Programs within the SQL: what they do is known when they have run.
_PROGRAMS = {"do", "call"}


@dataclass(frozen=True)
class Finding:
    """A change that is incompatible with the running release, or that it has to wait for.

    Attributes:
        migration: whose it is.
        rule: which of :data:`bedstone.migrations.rules.RULES` it is.
        statement: the SQL, in one line.
        why: what would happen.
        do: what to do instead.

    """

    migration: str
    rule: str
    statement: str
    why: str
    do: str

    @property
    def breaks(self) -> bool:
        """Return whether older code fails on the new schema, rather than waits while it is made."""
        return RULES[self.rule].kind == "incompatible"


def lint(
    report: Report, accepted: Collection[str] = (), *, declared: bool = True
) -> tuple[Finding, ...]:
    """Return what pending migrations would do to the release that is serving.

    Args:
        report: of the new release's image.
        accepted: what the operator accepts: names of migrations, of rules, or
            ``migration:rule``.
        declared: leave out what the migrations themselves accept. That they may says that the
            release before them is compatible with it; one before that perhaps isn't.

    Returns:
        Nothing for an empty database, where nothing serves yet.

    """
    if not report.applied:
        return ()
    judge = Judge(report.tables)
    by_name = {pending.name: pending for pending in report.pending}
    for pending in report.pending:
        judge.begin(pending.name, atomic=pending.atomic)
        # As one text: a statement may come in several pieces, or several in one.
        for statement in statements(_joined(pending)):
            judge.read(statement)
    return tuple(
        Finding(
            note.migration,
            note.rule,
            _shown(note.statement),
            RULES[note.rule].why,
            RULES[note.rule].advice(report.tool),
        )
        for note in judge.notes()
        if not (declared and note.rule in by_name[note.migration].accepts)
        and not _accepted(note, accepted)
    )


def unjudged(report: Report) -> tuple[tuple[str, str], ...]:
    """Return what :func:`lint` can't look into, as (migration, what): for the plan's words."""
    found = []
    for pending in report.pending:
        found += [(pending.name, what) for what in pending.opaque]
        if pending.sql is None and report.applied and not pending.opaque:
            found.append((pending.name, "its SQL is not known"))
        found += [
            (pending.name, _shown(statement.text))
            for statement in statements(_joined(pending))
            if statement.tokens[0].kind == "word" and statement.tokens[0].value in _PROGRAMS
        ]
    return tuple(found)


def concurrent_indexes(report: Report) -> tuple[str, ...]:
    """Return the names of the indexes that pending migrations build CONCURRENTLY.

    Such a build that was stopped leaves an invalid index of that name behind
    (https://www.postgresql.org/docs/current/sql-createindex.html, "Building Indexes
    Concurrently"), and the next attempt finds its name taken.
    """
    names = []
    for pending in report.pending:
        for statement in statements(_joined(pending)):
            reader = Reader(statement.tokens)
            if not reader.take("create"):
                continue
            reader.take("unique")
            if reader.take("index", "concurrently"):
                reader.take("if", "not", "exists")
                names += [] if reader.sees("on") else [reader.name() or ""]
    return tuple(dict.fromkeys(name for name in names if name))


def irreversible(report: Report) -> tuple[tuple[str, str], ...]:
    """Return the pending migrations that a rollback can't undo, as (migration, why)."""
    return tuple(
        (pending.name, pending.why_not or "it can't be undone")
        for pending in report.pending
        if not pending.reversible
    )


def _joined(pending: Pending) -> str:
    # On lines of their own, so that a comment at the end of one doesn't hide the next.
    return ";\n".join(pending.sql or ())


def _accepted(note: Note, accepted: Collection[str]) -> bool:
    names = (note.migration, note.rule, f"{note.migration}:{note.rule}")
    return any(name in accepted for name in names)


def _shown(statement: str) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
