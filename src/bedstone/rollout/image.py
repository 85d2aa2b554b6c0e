"""The release's image: built once from one source, named after each release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import files, history, paths, slots, source

if TYPE_CHECKING:
    from bedstone.docker import ImageFacts
    from bedstone.rollout.context import Rollout


def image(rollout: Rollout) -> str:
    """Build, pull or load the image and name it after the release."""
    app, docker = rollout.app, rollout.host.docker
    facts = None if rollout.wishes.rebuild else _built_before(rollout)
    how = f"{app.image.kind} as before" if facts else app.image.kind
    if facts is None:
        facts = source.obtain(
            app,
            rollout.identity,
            docker,
            rollout.host.run,
            rollout.on_line,
            fresh=rollout.wishes.rebuild,
        )
        # Docker itself leaves an image's layers to the kernel's own time.
        if (stored := paths.host("/var/lib/docker")).is_dir():
            files.sync_filesystem(stored, rollout.host.run)
    docker.tag(facts.id, image_name(app.name, rollout.id))
    rollout.image = facts.id
    rollout.uid, rollout.gid = docker.ids(facts.id, app.user or facts.user, app=app.name)
    history.set_image(rollout.connection, app.name, rollout.id, facts.id)
    slots.write_made(app.name, rollout.id, rollout.made)
    return f"{how} {facts.id[:19]}"


def _built_before(rollout: Rollout) -> ImageFacts | None:
    """Return the image that was built from the very same, if it is still here."""
    if rollout.build is None:
        return None
    found = history.built(rollout.connection, rollout.app.name, rollout.build)
    return rollout.host.docker.image(found) if found else None


def unimage(rollout: Rollout) -> None:
    """Take the release's name off the image."""
    rollout.host.docker.untag(image_name(rollout.app.name, rollout.id))


def image_name(app: str, release_id: str) -> str:
    """Return the name of a release's image."""
    return f"bedstone/{app}:{release_id}"
