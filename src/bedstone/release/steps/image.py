"""Build each of the release's images once from one source, and name it after each release."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.apps.slots import OwnImage
from bedstone.core import files, names, paths
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.ledger import releases
from bedstone.release import source
from bedstone.system import container

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bedstone.apps.config import App
    from bedstone.ledger.releases import Entry
    from bedstone.release.context import Rollout
    from bedstone.system.docker import ImageFacts


def image(rollout: Rollout) -> str:
    """Build, pull or load the images, the app's and those of services, and name them."""
    app = rollout.app
    made, said = {}, []
    for service in app.images:
        made[service], how = _make(rollout, service)
        said.append(f"{service}: {how}" if service else how)
    own = made.pop("")
    rollout.image, rollout.uid, rollout.gid = own.image, own.uid, own.gid
    rollout.own_images = made
    releases.set_image(rollout.connection, app.name, rollout.id, own.image)
    slots.write_made(app.name, rollout.id, rollout.made)
    return ", ".join(said)


def _make(rollout: Rollout, service: str) -> tuple[OwnImage, str]:
    """Build, pull or load one image and name it after the release; return it, and how in words."""
    app, docker = rollout.app, rollout.host.docker
    kind = app.images[service].kind
    facts = None if rollout.options.rebuild else _built_before(rollout, service)
    how = f"{kind} as before" if facts else kind
    if facts is None:
        facts = source.obtain(
            app,
            rollout.identities[service],
            docker,
            rollout.host.run,
            rollout.on_line,
            service=service,
            fresh=rollout.options.rebuild,
        )
        # Docker itself leaves an image's layers to the kernel's own time.
        if (stored := paths.host("/var/lib/docker")).is_dir():
            files.sync_filesystem(stored, rollout.host.run)
    require_no_loose_volumes(app, docker.volumes(facts.id))
    docker.tag(facts.id, names.image(app.name, rollout.id, service))
    uid, gid = docker.ids(facts.id, app.user or facts.user, app=app.name)
    return OwnImage(facts.id, uid, gid, rollout.builds.get(service)), f"{how} {facts.id[:19]}"


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


def _built_before(rollout: Rollout, service: str) -> ImageFacts | None:
    """Return the image that was built from the very same, if it is still here."""
    build = rollout.builds.get(service)
    if build is None:
        return None
    app, docker = rollout.app.name, rollout.host.docker
    if not service:
        found = releases.built(rollout.connection, app, build)
        return docker.image(found) if found else None
    for entry in releases.kept(rollout.connection, app):
        own = made_by(app, entry.id).get(service)
        if own is not None and own.build == build and (facts := docker.image(own.image)):
            return facts
    return None


def made_by(app: str, release: str) -> Mapping[str, OwnImage]:
    """Return the images of a kept release's services; none of one that never got that far."""
    try:
        return slots.read_made(app, release).services
    except ConfigError:
        return {}


def undo_image(rollout: Rollout) -> None:
    """Take the release's name off the images."""
    for service in rollout.app.images:
        rollout.host.docker.untag(names.image(rollout.app.name, rollout.id, service))


def drop_pulled(rollout: Rollout, kept: Collection[str]) -> int:
    """Remove what earlier releases of the app pulled; return how many names went.

    Only images that the ledger knows as this app's, only under the name of the repository
    that it comes from now, and none that a kept release of any app has.

    Args:
        rollout: the release that serves now.
        kept: the ids of the app's releases that stay.

    """
    app, connection, docker = rollout.app, rollout.connection, rollout.host.docker
    pulled = {i.reference for i in app.images.values() if i.kind == "pull" and i.reference}
    if not pulled:
        return 0
    entries = releases.entries(connection, app.name)
    wanted = _images_of(app.name, (entry for entry in entries if entry.id in kept))
    for other in releases.known_apps(connection):
        wanted |= _images_of(other, releases.kept(connection, other))
    old = _images_of(app.name, entries) - wanted
    names = [
        name
        for place in sorted({repository(reference) for reference in pulled})
        for name, image in docker.names(place)
        if image in old and name not in pulled
    ]
    for name in names:
        docker.untag(name)
    return len(names)


def _images_of(app: str, entries: Iterable[Entry]) -> set[str | None]:
    found: set[str | None] = set()
    for entry in entries:
        found.add(entry.image)
        found |= {own.image for own in made_by(app, entry.id).values()}
    return found


def repository(reference: str) -> str:
    """Return a reference without its tag and digest: a registry's port isn't a tag."""
    plain = reference.partition("@")[0]
    path, colon, tag = plain.rpartition(":")
    return path if colon and "/" not in tag else plain
