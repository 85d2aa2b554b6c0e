"""What a release would do to the database's schema, and what it takes to undo it.

The app's own image is asked: a probe runs in it beside the migrate command and reports
what is applied, what is pending and the SQL of it (:func:`probe`, :func:`parse`). The
report is judged here (:func:`lint`) by one question: can the release that serves now live
with the new schema until the new one has taken over, and after a rollback?
"""

from bedstone.migrations.commands import guess
from bedstone.migrations.explain import explain
from bedstone.migrations.lint import Finding, lint, unjudged
from bedstone.migrations.probe import PATH, Probe, probe
from bedstone.migrations.report import Backward, Pending, Report, Table, parse
from bedstone.migrations.rules import BIG_BYTES, BIG_ROWS, RULES

__all__ = [
    "BIG_BYTES",
    "BIG_ROWS",
    "PATH",
    "RULES",
    "Backward",
    "Finding",
    "Pending",
    "Probe",
    "Report",
    "Table",
    "explain",
    "guess",
    "lint",
    "parse",
    "probe",
    "unjudged",
]
