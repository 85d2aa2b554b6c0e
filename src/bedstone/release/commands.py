"""Run the app's own commands in an image before it serves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.apps import config, environment, slots
from bedstone.apps.containers import for_command
from bedstone.apps.slots import Made
from bedstone.core import paths, reason
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.release.steps import prepare
from bedstone.system import container_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bedstone.apps.config import App
    from bedstone.core.process import Completed
    from bedstone.release.context import Rollout
    from bedstone.system.host import Host

MIGRATE_SECONDS = 3600.0
# A migration that gave up waiting for a table is tried again: the session that held it has finished
# by then, or holds it for minutes, and then an error is better than a longer wait.
LOCK_ATTEMPTS = 5
LOCK_PAUSE_SECONDS = 3.0
# What PostgreSQL and its drivers say when lock_timeout ends a statement (SQLSTATE 55P03).
_LOCK_WORDS = ("lock timeout", "LockNotAvailable", "55P03")


@dataclass(frozen=True)
class Image:
    """A release's image and with which settings a command runs in it."""

    app: App
    release: str
    made: Made
    environment_file: str = environment.APP
    # The migration role has one password at a time: a release that is kept takes today's.
    present_secrets: bool = False

    def variables(self) -> dict[str, str]:
        """Return the environment kept with the release, with today's secrets where asked for."""
        directory = paths.release(self.app.name, self.release)
        kept = environment.load(directory / self.environment_file)
        if not self.present_secrets or self.app.name not in config.declared():
            return kept
        declared = config.load(self.app.name)
        now = prepare.declared_environments(declared)[self.environment_file]
        return prepare.merged(kept, now, self.app.rotating_variables | declared.rotating_variables)


def image_of_release(rollout: Rollout, environment_file: str = environment.APP) -> Image:
    """Return the image of the running release, which has no static files of its own yet."""
    made = Made(rollout.image, rollout.uid, rollout.gid)
    return Image(rollout.app, rollout.id, made, environment_file)


def migrating(rollout: Rollout) -> Image | None:
    """Return the image with the migrations' environment, if the app's differs by values alone.

    The values of the database's login: what needs no login may run with the migrations' as well.
    """
    image = image_of_release(rollout, environment.MIGRATE)
    names = image_of_release(rollout).variables().keys()
    return image if image.variables().keys() == names else None


def said(commands: Sequence[Sequence[str]]) -> str:
    """Return commands as text."""
    return ", ".join(" ".join(command) for command in commands) or "none declared"


def run(
    host: Host,
    image: Image,
    command: tuple[str, ...],
    kind: str,
    seconds: float,
    *,
    on_line: Callable[[str], None] | None = None,
    variables: Mapping[str, str] | None = None,
    mounts: Sequence[tuple[str, str]] = (),
    static_source: str | None = None,
    declared: tuple[str, ...] | None = None,
) -> Completed:
    """Run a command of the app in an image.

    Args:
        host: the server.
        image: which image, and with which environment.
        command: what to run.
        kind: ends the container's name: ``check``, ``migrate``...
        seconds: how long it may take.
        on_line: called with every line it prints.
        variables: further variables.
        mounts: further files of the server it sees, read only: where, and where to.
        static_source: see :func:`bedstone.apps.containers.for_command`.
        declared: the command that an error names (default: ``command``).

    Raises:
        BedstoneError: it failed; holds the last lines it printed.

    """
    wanted = for_command(
        image.app,
        image.release,
        image.made,
        {**image.variables(), **(variables or {})},
        command,
        kind=kind,
        static_source=static_source,
        mounts=mounts,
        migrate=image.environment_file != "app.env",
    )
    try:
        return host.docker.run_once(wanted, timeout=seconds, on_line=on_line)
    except CommandError as error:
        ended = "took too long" if error.returncode is None else f"exit code {error.returncode}"
        hint = "The command is declared under `commands` of the app."
        if slots.serving(image.app.name) is not None:
            # `bedstone run` takes the image that serves: before the first release there is none.
            hint = f"Try it by hand: `bedstone run {image.app.name} -- COMMAND`. {hint}"
        facts = host.docker.image(image.made.image)
        if error.returncode is None and facts is not None and facts.entrypoint:
            hint = (
                f"The image's ENTRYPOINT is {list(facts.entrypoint)}: it has to run the command it"
                ' is given (`exec "$@"`). A server belongs into CMD, or into `command` of the'
                " service."
            )
        known = container_hints.of_database(
            error.details, migration=image.environment_file != environment.APP
        ) or container_hints.hint(error.details, image.made.uid, image.app.capabilities)
        cause = reason.exception(error.details)
        shown = " ".join(declared or command)
        raise BedstoneError(
            f"`{shown}` failed in the image: {ended}." + (f" {cause}" if cause else ""),
            hint=known or hint,
            details=error.details,
        ) from error


def run_migrations(
    host: Host,
    image: Image,
    commands: Sequence[tuple[str, ...]],
    kind: str,
    on_line: Callable[[str], None] | None = None,
    before_each: Callable[[], None] = lambda: None,
    execute: Callable[[tuple[str, ...]], object] | None = None,
) -> int:
    """Run commands that change the schema; return how often they had to wait for a lock.

    The migration role has a short ``lock_timeout``: a change that waits for a busy table
    would make every request that comes after it wait, too.

    Args:
        host: the server.
        image: the image whose commands they are.
        commands: what to run.
        kind: ends the container's name.
        on_line: called with every line that is printed.
        before_each: called before each attempt; removes what a stopped attempt left.
        execute: runs one of them once (default: in a container of its own).

    Raises:
        BedstoneError: one of them failed.

    """
    waited = 0
    for command in commands:
        while True:
            try:
                before_each()
                if execute is not None:
                    execute(command)
                else:
                    run(host, image, command, kind, MIGRATE_SECONDS, on_line=on_line)
                break
            except BedstoneError as error:
                said = f"{error.message}\n{error.details}"
                if not any(words in said for words in _LOCK_WORDS):
                    raise
                waited += 1
                if waited >= LOCK_ATTEMPTS:
                    raise BedstoneError(
                        f"A migration found its table locked in all {waited} attempts, by"
                        " transactions longer than `lock_timeout_seconds`.",
                        hint="Nothing waits behind it. `SELECT pid, query FROM pg_stat_activity`"
                        " shows who holds it; release again at a quieter moment, or let it wait"
                        " longer: `database: {lock_timeout_seconds: 30}` of the app.",
                        details=error.details,
                    ) from error
                if on_line is not None:
                    on_line("The table is locked: trying again.")
                time.sleep(LOCK_PAUSE_SECONDS * waited)
    return waited
