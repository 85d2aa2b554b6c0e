"""Derive settings that are left out from an app's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.migrations import guess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone_control.settings.app import App


def migration_tool(app: App) -> str:
    """Return the migration tool of an app: `django`, `alembic` or `none`."""
    if app.migrations is not None:
        return app.migrations
    # The same judgement as the host program's, which has to ask the tool later.
    return guess(app.commands.migrate) if app.database else "none"


def console(app: App) -> list[str] | None:
    """Return the command of an app's console, None when it has none."""
    given = app.commands.console
    if given is not None:
        return given or None
    commands = app.commands
    for command in (*commands.migrate, *commands.check, *commands.static):
        start = _django(command)
        if start is not None:
            return [*start, "shell"]
    return None


def _django(command: Sequence[str]) -> list[str] | None:
    """Return the part of a command that starts Django's own: `python manage.py`."""
    for index, word in enumerate(command):
        if word.rpartition("/")[2] in {"manage.py", "django-admin"}:
            return list(command[: index + 1])
    return None
