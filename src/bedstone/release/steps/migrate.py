"""Change the schema, as the migration role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import migrations
from bedstone.core import files
from bedstone.release import commands, one_start, schema
from bedstone.release.steps import static

if TYPE_CHECKING:
    from collections.abc import Callable

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
        execute=_with_static(rollout),
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


def _with_static(rollout: Rollout) -> Callable[[tuple[str, ...]], None] | None:
    """Return what migrates and collects the static files in one start of the app, if both can be.

    The files stay in the directory that step `static` publishes; nothing refers to it until then.
    """
    app, image = rollout.app, commands.migrating(rollout)
    together = migrations.migrate_and_collect(app)
    if image is None or together is None or app.static is None or app.static.service:
        return None

    def execute(command: tuple[str, ...]) -> None:
        partial = static.lay_out(rollout)
        try:
            output = one_start.run(
                rollout.host,
                image,
                together,
                "migrate",
                commands.MIGRATE_SECONDS + static.STATIC_SECONDS,
                declared=command,
                on_line=rollout.on_line,
                static_source=str(partial),
            )
        except BaseException:
            files.remove_tree(partial)
            raise
        rollout.collected = output is not None and output.splitlines().count(migrations.DONE) > 1

    return execute


def migrate_forward(rollout: Rollout) -> str:
    """Run the migrate commands of a release that is newer than the one that serves."""
    if not rollout.schema.forward:
        return "nothing to apply"
    declared = rollout.app.commands.migrate
    commands.run_migrations(
        rollout.host,
        commands.image_of_release(rollout, "migrate.env"),
        declared,
        "migrate",
        rollout.on_line,
    )
    return commands.said(declared)
