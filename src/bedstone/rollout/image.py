"""The release's image."""

from __future__ import annotations

from bedstone import history, slots, source
from bedstone.rollout.context import Rollout
from bedstone.slots import Made


def image(rollout: Rollout) -> str:
    """Build, pull or load the image and name it after the release."""
    app, docker = rollout.app, rollout.host.docker
    facts = source.obtain(app, rollout.identity, docker, rollout.host.run, rollout.on_line)
    docker.tag(facts.id, image_name(app.name, rollout.id))
    rollout.image = facts.id
    rollout.uid, rollout.gid = docker.ids(facts.id, app.user or facts.user)
    history.set_image(rollout.connection, app.name, rollout.id, facts.id)
    made = Made(facts.id, rollout.uid, rollout.gid, rollout.static)
    slots.write_made(app.name, rollout.id, made)
    return f"{app.image.kind} {facts.id[:19]}"


def unimage(rollout: Rollout) -> None:
    """Take the release's name off the image."""
    rollout.host.docker.untag(image_name(rollout.app.name, rollout.id))


def image_name(app: str, release_id: str) -> str:
    """Return the name of a release's image."""
    return f"bedstone/{app}:{release_id}"
