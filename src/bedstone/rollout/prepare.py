"""Keep the settings and the environment that a release is made with."""

from __future__ import annotations

from bedstone import environment, files, paths
from bedstone.rollout.context import Rollout

STEP_KINDS = ("check", "migrate", "static")


def prepare(rollout: Rollout) -> str:
    """Keep the settings and the environment the release is made with."""
    app = rollout.app
    directory = paths.ensure_private(rollout.directory)
    files.write(directory / "app.json", app.text, mode=0o600)
    variables = environment.load(paths.host(app.environment_file))
    files.write(directory / "app.env", environment.dumps(variables), mode=0o600)
    if app.migrate_environment_file:
        variables = environment.load(paths.host(app.migrate_environment_file))
    files.write(directory / "migrate.env", environment.dumps(variables), mode=0o600)
    for kind in STEP_KINDS:
        # Left by a release that was killed in the middle.
        rollout.host.docker.remove(f"bedstone-{app.name}-{kind}")
    return rollout.id


def unprepare(rollout: Rollout) -> None:
    """Forget the release's settings."""
    files.remove_tree(rollout.directory)
