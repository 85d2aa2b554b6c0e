"""Analyse what a release would do to the database's schema, and how it can be undone.

The app's own image answers: a probe runs in it next to the migrate command and reports what is
applied, what is pending and the SQL of it (:func:`probe`, :func:`parse`). The report is judged here
(:func:`lint`) by one criterion: the serving release must be compatible with the new schema, until
the new release serves and after a rollback.

What is not seen: databases of Django but `default`; tables of apps without migrations
(`--run-syncdb`); all but the first database of an Alembic environment with several; what
functions in Python and DO blocks do (they are named, :func:`unjudged`); triggers and rules,
and what a function that is replaced does from then on.

Asking changes nothing. Django's operations and Alembic's `upgrade()` only write down their
SQL; a migration that goes to the database by itself is stopped at its first statement that
is not a question. What else its code does while it is imported or called, it does here too.
"""

from bedstone.migrations.commands import guess
from bedstone.migrations.explain import explain
from bedstone.migrations.lint import (
    Finding,
    concurrent_indexes,
    irreversible,
    lint,
    unjudged,
)
from bedstone.migrations.probe import (
    PATH,
    Probe,
    migrate_and_collect,
    probe,
    probe_after_check,
)
from bedstone.migrations.report import DONE, Backward, Pending, Report, Table, parse
from bedstone.migrations.rules import BIG_BYTES, BIG_ROWS, RULES

__all__ = [
    "BIG_BYTES",
    "BIG_ROWS",
    "DONE",
    "PATH",
    "RULES",
    "Backward",
    "Finding",
    "Pending",
    "Probe",
    "Report",
    "Table",
    "concurrent_indexes",
    "explain",
    "guess",
    "irreversible",
    "lint",
    "migrate_and_collect",
    "parse",
    "probe",
    "probe_after_check",
    "unjudged",
]
