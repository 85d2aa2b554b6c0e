"""The app's own commands, run in the new image."""

from __future__ import annotations

from collections.abc import Sequence

from bedstone import environment
from bedstone.container import for_command
from bedstone.errors import BedstoneError, CommandError
from bedstone.rollout.context import Rollout
from bedstone.slots import Made

CHECK_SECONDS = 300.0
MIGRATE_SECONDS = 3600.0


def check(rollout: Rollout) -> str:
    """Run the app's own checks with its environment."""
    return run_commands(rollout, "check", rollout.app.commands.check, "app.env", CHECK_SECONDS)


def migrate(rollout: Rollout) -> str:
    """Change the schema, as the migration role."""
    commands = rollout.app.commands.migrate
    return run_commands(rollout, "migrate", commands, "migrate.env", MIGRATE_SECONDS)


def run_commands(
    rollout: Rollout,
    kind: str,
    commands: Sequence[tuple[str, ...]],
    environment_file: str,
    seconds: float,
    static_source: str | None = None,
) -> str:
    """Run the app's commands of a kind in the new image, one after the other.

    Args:
        rollout: whose image and settings.
        kind: ends the container's name: ``check``, ``migrate``...
        commands: what to run.
        environment_file: the name of a file in the release's directory.
        seconds: how long each of them may take.
        static_source: see :func:`bedstone.container.for_command`.

    Raises:
        BedstoneError: one of them failed; holds the last lines it printed.

    """
    variables = environment.load(rollout.directory / environment_file)
    # The release has no static files of its own yet.
    made = Made(rollout.image, rollout.uid, rollout.gid)
    for command in commands:
        wanted = for_command(
            rollout.app,
            rollout.id,
            made,
            variables,
            command,
            kind=kind,
            static_source=static_source,
        )
        try:
            rollout.host.docker.run_once(wanted, timeout=seconds, on_line=rollout.on_line)
        except CommandError as error:
            ended = "took too long" if error.returncode is None else f"exit code {error.returncode}"
            raise BedstoneError(
                f"`{' '.join(command)}` failed in the new image: {ended}.",
                hint=f"The old release serves on. Try it by hand: `bedstone run {rollout.app.name}"
                " -- COMMAND`; the command is declared under `commands` of the app.",
                details=error.details,
            ) from error
    return ", ".join(" ".join(command) for command in commands) or "none declared"
