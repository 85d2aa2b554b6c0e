"""Save the settings and the environment that a release is made with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bedstone.apps import config, environment, slots
from bedstone.core import disk, files, names, paths
from bedstone.core.errors import BedstoneError
from bedstone.system.docker import LOOK

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bedstone.apps.config import App
    from bedstone.release.context import Rollout

# One-off containers that a killed operation may have left running.
STEP_KINDS = ("check", "plan", "migrate", "reverse", "static", LOOK)
# Below that, a build or a container's writes would stop everything on the server.
LEAST_FREE_BYTES = 512 * 1024**2
_AS_RELEASED = ".released"


def prepare(rollout: Rollout) -> str:
    """Save the settings and the environment the release is made with."""
    app = rollout.app
    require_room(app)
    directory = paths.ensure_private(rollout.directory)
    files.write(directory / "app.json", app.text, mode=0o600)
    for name, variables in declared_environments(app).items():
        files.write(directory / name, environment.dumps(variables), mode=0o600)
    remove_leftovers(rollout)
    return rollout.id


def undo_prepare(rollout: Rollout) -> None:
    """Remove the release's settings."""
    files.remove_tree(rollout.directory)


def revive(rollout: Rollout) -> str:
    """Prepare an earlier release to serve again, with the current secrets."""
    app, directory = rollout.app, rollout.directory
    require_room(app)
    made = slots.read_made(app.name, rollout.id)
    if any(rollout.host.docker.image(image) is None for image in made.images().values()):
        raise BedstoneError(
            f"An image of release {rollout.id} isn't on this server any more.",
            hint=f"`bedstone releases {app.name}` lists those that can serve again.",
        )
    rollout.image, rollout.uid, rollout.gid = made.image, made.uid, made.gid
    rollout.own_images = dict(made.services)
    declared = config.load(app.name)
    secret = app.rotating_variables | declared.rotating_variables
    changed: set[str] = set()
    present = declared_environments(declared)
    for name in app.environment_files:
        path, original = directory / name, directory / f"{name}{_AS_RELEASED}"
        text = path.read_text(encoding="utf-8")
        if not original.exists():
            files.write(original, text, mode=0o600)
        then, now = environment.load(original), present_of(present, name)
        wanted = then if rollout.options.old_secrets else merged(then, now, secret)
        changed |= {key for key, value in wanted.items() if value != then[key]}
        rollout.old_environments[name] = text
        files.write(path, environment.dumps(wanted), mode=0o600)
    remove_leftovers(rollout)
    if changed:
        return f"{rollout.id} with the present {', '.join(sorted(changed))}"
    return rollout.id


def undo_revive(rollout: Rollout) -> None:
    """Give the release the environment it had before."""
    for name, text in rollout.old_environments.items():
        files.write(rollout.directory / name, text, mode=0o600)


def declared_environments(app: App) -> dict[str, dict[str, str]]:
    """Return the declared variables of an app, of its migrations and services, by file."""
    return {
        name: environment.load(paths.host(place)) for name, place in app.environment_files.items()
    }


def present_of(declared: Mapping[str, dict[str, str]], name: str) -> dict[str, str]:
    """Return the declared variables that take the place of a kept release's file.

    A service that had variables of its own then, and has none now, gets the app's.
    """
    return declared.get(name) or declared[environment.APP]


def remove_leftovers(rollout: Rollout) -> None:
    """Remove one-off containers that a killed operation has left: they may still be at work."""
    rollout.host.docker.remove(
        *(names.command_container(rollout.app.name, kind) for kind in STEP_KINDS)
    )


def require_room(app: App) -> None:
    """Refuse to begin on a disk that is nearly full.

    Raises:
        BedstoneError: says which, and what to remove.

    """
    for place in ("/var/lib/docker", "/var/lib/bedstone", "/srv/bedstone"):
        path = paths.host(place)
        if not path.is_dir():
            continue
        free = shutil.disk_usage(path).free
        if free < LEAST_FREE_BYTES:
            raise BedstoneError(
                f"Only {disk.human(free)} are free at {place}; a release of {app.name} begins with"
                f" {disk.human(LEAST_FREE_BYTES)} at least.",
                hint="`docker system df` and `du -xh --max-depth=2 /var` show what takes the room;"
                " `docker builder prune` frees what builds have cached.",
            )


def merged(
    then: Mapping[str, str], declared: Mapping[str, str], secret: Collection[str]
) -> dict[str, str]:
    """Return a release's environment with the secrets of today.

    A password that was changed is changed in the database, too: with the one of that time
    the release could not even start.

    Args:
        then: its variables, as it was made with.
        declared: those that are declared now.
        secret: names of the variables that hold secrets, or the database login of one.

    """
    return {
        name: declared[name] if name in secret and name in declared else value
        for name, value in then.items()
    }
