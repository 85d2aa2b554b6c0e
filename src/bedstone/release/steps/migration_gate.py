"""Check that pending migrations are compatible with the running release, before any change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import migrations
from bedstone.core.errors import RefusedError
from bedstone.release import commands, schema
from bedstone.release.steps import logins

if TYPE_CHECKING:
    from bedstone.migrations import Report
    from bedstone.release.context import Rollout

_NAMED = 3
UNKNOWN = "unknown-migrations"


def plan(rollout: Rollout) -> str:
    """Find the pending migrations, and refuse those incompatible with the running release."""
    app = rollout.app
    if app.database is None:
        return "no database"
    logins.require(app)
    if not app.commands.migrate:
        return "no migrations declared"
    image = commands.image_of_release(rollout, "migrate.env")
    report = rollout.schema.asked or schema.ask(rollout.host, image, on_line=rollout.on_line)
    if report is None:
        rollout.schema.changes = True
        return f"`migrations: {app.migrations}`: nothing tells what is pending"
    rollout.schema.report = report
    rollout.schema.changes = bool(report.pending)
    # Nothing serves yet: there is nothing to break.
    if rollout.old is not None:
        _require_known(rollout, rollout.old.release, report)
        # Includes what the migrations accept for themselves: a rollback over several releases
        # reaches one that their acceptance was not meant for.
        rollout.schema.breaking = tuple(
            dict.fromkeys(
                finding.migration
                for finding in migrations.lint(report, declared=False)
                if finding.breaks
            )
        )
        findings = migrations.lint(report, rollout.options.accepted)
        if findings:
            raise RefusedError(
                migrations.explain(findings, app.name),
                hint="Nothing was changed; the release that served before serves on.",
            )
    return pending_words(report)


def _require_known(rollout: Rollout, serving: str, report: Report) -> None:
    """Refuse an image that lacks applied migrations: older code on a newer schema.

    Migrations that were squashed and whose files are gone stay recorded in the database for
    good: migrations that the serving release lacks, too, are accepted.
    """
    record = schema.read(rollout.app.name, serving)
    if record is None or UNKNOWN in rollout.options.accepted:
        return
    unknown = [name for name in report.unknown if name not in record.unknown]
    if unknown:
        name = rollout.app.name
        raise RefusedError(
            f"The database has migrations that this source doesn't have: {', '.join(unknown)}.",
            hint=f"To go back to an older version: `bedstone rollback {name}`, which knows the way"
            " back. If they were squashed, or left by a release that failed and was given up:"
            f" `bedstone release {name} --accept {UNKNOWN}`, once.",
        )


def pending_words(report: Report) -> str:
    """Return what is pending, as text."""
    names = [pending.name for pending in report.pending]
    if not names:
        return f"nothing pending, {len(report.applied)} applied"
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    unjudged = migrations.unjudged(report)
    unread = f"; {len(unjudged)} of their operations can't be looked into" if unjudged else ""
    final = migrations.irreversible(report)
    undone = (
        f"; a rollback can't undo {final[0][0]} ({final[0][1]})"
        + (f" and {len(final) - 1} more" if final[1:] else "")
        + ", it takes the restore point"
        if final
        else ""
    )
    return f"{len(names)} pending: {shown}{unread}{undone}"
