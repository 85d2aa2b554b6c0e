"""Run the app's own checks, before anything of it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import migrations
from bedstone.release import commands, schema

if TYPE_CHECKING:
    from bedstone.release.context import Rollout

CHECK_SECONDS = 300.0


def check(rollout: Rollout) -> str:
    """Run the app's own checks; one of Django asks for pending migrations in the same start."""
    app, host, on_line = rollout.app, rollout.host, rollout.on_line
    migrating = commands.migrating(rollout) if app.database is not None else None
    probe = migrations.probe_after_check(app)
    if migrating is not None and probe is not None:
        rollout.schema.asked = schema.ask_after_check(
            host, migrating, probe, CHECK_SECONDS, on_line=on_line
        )
    else:
        image = commands.image_of_release(rollout)
        for command in app.commands.check:
            commands.run(host, image, command, "check", CHECK_SECONDS, on_line=on_line)
    return commands.said(app.commands.check)
