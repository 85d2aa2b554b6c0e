"""Change the schema, as the migration role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import migrations
from bedstone.release import commands, schema

if TYPE_CHECKING:
    from bedstone.release.context import Rollout


def migrate(rollout: Rollout) -> str:
    """Change the schema, as the migration role, and keep with the release what it is now."""
    app = rollout.app
    report = rollout.schema.report
    indexes = migrations.concurrent_indexes(report) if report is not None else ()
    waited = commands.run_migrations(
        rollout.host,
        commands.image_of_release(rollout, "migrate.env"),
        app.commands.migrate,
        "migrate",
        rollout.on_line,
        before_each=lambda: schema.drop_invalid_indexes(app, indexes, rollout.on_line),
    )
    applied: tuple[str, ...] | None = None
    unknown: tuple[str, ...] = ()
    if report is not None:
        applied = (*report.applied, *(pending.name for pending in report.pending))
        unknown = report.unknown
    record = schema.Record(applied, rollout.schema.breaking, unknown, schema.digest(app))
    schema.write(app.name, rollout.id, record)
    text = commands.said(app.commands.migrate)
    return f"{text} (a table was locked, {waited} times)" if waited else text


def migrate_forward(rollout: Rollout) -> str:
    """Run the migrate commands of a release that is newer than the one that serves."""
    if not rollout.schema.forward:
        return "nothing to apply"
    migrations = rollout.app.commands.migrate
    commands.run_migrations(
        rollout.host,
        commands.image_of_release(rollout, "migrate.env"),
        migrations,
        "migrate",
        rollout.on_line,
    )
    return commands.said(migrations)
