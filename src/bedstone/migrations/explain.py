"""Format the findings in migrations as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedstone.migrations.lint import Finding

_WIDTH = 96


def explain(findings: Sequence[Finding], app_name: str) -> str:
    """Return what was found, why it matters, what to do instead and how to accept it.

    Args:
        findings: of :func:`bedstone.migrations.lint.lint`; at least one.
        app_name: the app's, for the command.

    """
    many = len({finding.migration for finding in findings}) > 1
    lines = [
        f"The pending migration{'s' if many else ''} would break the release that is serving,",
        "make it wait, or fail.",
    ]
    for (migration, rule), group in groupby(findings, key=lambda f: (f.migration, f.rule)):
        same = list(group)
        lines += ["", f"{migration}: {rule}"]
        lines += [f"    {finding.statement}" for finding in same]
        lines += [_wrapped("  why: ", same[0].why), _wrapped("  do:  ", same[0].do)]
    migration, rule = findings[0].migration, findings[0].rule
    names = dict.fromkeys(finding.migration for finding in findings)
    rules = dict.fromkeys(f.rule for f in findings if f.migration == migration)
    accepts = " ".join(f"--accept {name}" for name in names)
    listed = ", ".join(f'"{each}"' for each in rules)
    lines += [
        "",
        "Is it meant so, because the running release no longer uses it or may wait? Say so",
        f"  in the migration {migration}, by an attribute of Django's class Migration, or a",
        f"  variable beside Alembic's `revision`:  bedstone_accepts = [{listed}]",
        f"  or for this release:  bedstone release {app_name} {accepts}",
        f"  (one rule of it alone: --accept {migration}:{rule})",
    ]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
