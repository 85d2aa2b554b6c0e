"""Build the release's image once from one source, and name it after each release."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.core import files, names, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import releases
from bedstone.release import source
from bedstone.system import container

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bedstone.apps.config import App
    from bedstone.release.context import Rollout
    from bedstone.system.docker import ImageFacts


def image(rollout: Rollout) -> str:
    """Build, pull or load the image and name it after the release."""
    app, docker = rollout.app, rollout.host.docker
    facts = None if rollout.options.rebuild else _built_before(rollout)
    how = f"{app.image.kind} as before" if facts else app.image.kind
    if facts is None:
        facts = source.obtain(
            app,
            rollout.identity,
            docker,
            rollout.host.run,
            rollout.on_line,
            fresh=rollout.options.rebuild,
        )
        # Docker itself leaves an image's layers to the kernel's own time.
        if (stored := paths.host("/var/lib/docker")).is_dir():
            files.sync_filesystem(stored, rollout.host.run)
    require_no_loose_volumes(app, docker.volumes(facts.id))
    docker.tag(facts.id, names.image(app.name, rollout.id))
    rollout.image = facts.id
    rollout.uid, rollout.gid = docker.ids(facts.id, app.user or facts.user, app=app.name)
    releases.set_image(rollout.connection, app.name, rollout.id, facts.id)
    slots.write_made(app.name, rollout.id, rollout.made)
    return f"{how} {facts.id[:19]}"


def require_no_loose_volumes(app: App, volumes: Sequence[str]) -> None:
    """Refuse an image that would keep files where no setting says so.

    For each `VOLUME` Docker lays a new, nameless volume over the directory, also over a part of the
    uploads: what is written there is served by nothing, in no backup, and gone with the container.

    Args:
        app: its settings.
        volumes: what the image's Dockerfiles name.

    Raises:
        BedstoneError: names them, with the line that decides what becomes of each.

    """
    covered = {PurePosixPath(entry.partition(":")[0]) for entry in app.tmpfs}
    covered.add(PurePosixPath(container.TEMPORARY))  # every container has its own
    covered |= {PurePosixPath(mount.target) for mount in app.mounts}
    covered |= {PurePosixPath(part.path) for part in (app.static, app.media) if part is not None}
    loose = [path for path in volumes if PurePosixPath(posixpath.normpath(path)) not in covered]
    if not loose:
        return
    media = PurePosixPath(app.media.path) if app.media is not None else None
    raise BedstoneError(
        f"The image has a VOLUME at {', '.join(loose)}, and no setting of {app.name} says what"
        " becomes of the files there: they would be lost with each container.",
        hint="\n".join(_volume_hint(app, PurePosixPath(path), media) for path in loose),
    )


def _volume_hint(app: App, path: PurePosixPath, media: PurePosixPath | None) -> str:
    if media is None:
        kept = f"`media: {{path: {path}, url: null}}` keeps the files"
    elif path.is_relative_to(media):
        # A directory in memory over a part of the uploads would lose that part.
        return (
            f"{path} is a part of `media` ({media}): remove the line VOLUME from the Dockerfile, or"
            f" write `media: {path}`."
        )
    elif media.is_relative_to(path):
        kept = f"`media: {path}` keeps all of it, not only {media}"
    else:
        kept = "remove the line VOLUME from the Dockerfile where it is not needed"
    tmpfs = ", ".join((*app.tmpfs, str(path)))
    return f"{path}: {kept}; `tmpfs: [{tmpfs}]` has them in memory until the next restart."


def _built_before(rollout: Rollout) -> ImageFacts | None:
    """Return the image that was built from the very same, if it is still here."""
    if rollout.build is None:
        return None
    found = releases.built(rollout.connection, rollout.app.name, rollout.build)
    return rollout.host.docker.image(found) if found else None


def undo_image(rollout: Rollout) -> None:
    """Take the release's name off the image."""
    rollout.host.docker.untag(names.image(rollout.app.name, rollout.id))


def drop_pulled(rollout: Rollout, kept: Collection[str]) -> int:
    """Remove what earlier releases of the app pulled; return how many names went.

    Only images that the ledger knows as this app's, only under the name of the repository
    that it comes from now, and none that a kept release of any app has.

    Args:
        rollout: the release that serves now.
        kept: the ids of the app's releases that stay.

    """
    app, connection, docker = rollout.app, rollout.connection, rollout.host.docker
    if app.image.kind != "pull":
        return 0
    entries = releases.entries(connection, app.name)
    wanted = {entry.image for entry in entries if entry.id in kept}
    for other in releases.known_apps(connection):
        wanted |= {entry.image for entry in releases.kept(connection, other)}
    old = {entry.image for entry in entries} - wanted
    names = [
        name
        for name, image in docker.names(repository(app.image.reference or ""))
        if image in old and name != app.image.reference
    ]
    for name in names:
        docker.untag(name)
    return len(names)


def repository(reference: str) -> str:
    """Return a reference without its tag and digest: a registry's port isn't a tag."""
    plain = reference.partition("@")[0]
    path, colon, tag = plain.rpartition(":")
    return path if colon and "/" not in tag else plain
