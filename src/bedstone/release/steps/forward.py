"""Apply migrations of a rollback's target release that the database lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.release import commands

if TYPE_CHECKING:
    from bedstone.release.context import Rollout


def migrate_forward(rollout: Rollout) -> str:
    """Run the migrate commands of a release that is newer than the one that serves."""
    if not rollout.schema.forward:
        return "nothing to apply"
    migrations = rollout.app.commands.migrate
    commands.run_migrations(
        rollout.host,
        commands.of(rollout, "migrate.env"),
        migrations,
        "migrate",
        rollout.on_line,
    )
    return commands.said(migrations)
