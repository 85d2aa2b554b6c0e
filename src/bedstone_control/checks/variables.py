"""Find variables that Bedstone doesn't use: most are misspelt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control.checks.context import did_you_mean
from bedstone_control.settings import renamed
from bedstone_control.settings.root import OTHER_VARIABLES, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem

SETTINGS = frozenset({f"bedstone_{name}" for name in Settings.model_fields} | set(OTHER_VARIABLES))


def check(context: Context) -> Iterator[Problem]:
    """Check the names of all variables with a prefix of ours."""
    seen: set[str] = set()
    for variables in context.host_variables.values():
        for name in variables:
            if name in seen:
                continue
            seen.add(name)
            problem = _old(context, name) or _name(context, name)
            if problem:
                yield problem


def _old(context: Context, name: str) -> Problem | None:
    """Return a problem when an earlier version had this name."""
    if (new := renamed.RENAMED.get(name)) is not None:
        return context.problem((name,), f"`{name}` is called `{new}` now.", f"{new}: …")
    if (instead := renamed.REMOVED.get(name)) is not None:
        return context.problem((name,), f"`{name}` was removed. {instead}", f"# {name}: …")
    return None


def _name(context: Context, name: str) -> Problem | None:
    """Return a problem when a name has a prefix of ours and is none of ours."""
    if name.startswith("bedstone_"):
        if name in SETTINGS:
            return None
        hint = did_you_mean(name, sorted(SETTINGS))
        return context.problem((name,), f"Unknown setting. {hint}", _first(hint))
    # The longest prefix wins: a role `app_cache` next to `app` has separate names.
    owners = [role for role in context.role_arguments if name.startswith(f"{role}_")]
    if not owners:
        return None
    role = max(owners, key=len)
    known = context.role_arguments[role]
    if name in known:
        return None
    hint = did_you_mean(name, sorted(known))
    return context.problem((name,), f"The role {role} has no such argument. {hint}", _first(hint))


def _first(hint: str) -> str:
    """Return the first name of a hint, as a line of a file."""
    parts = hint.split("`")
    return f"{parts[1]}: …" if len(parts) > 1 else ""
