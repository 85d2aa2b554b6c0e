"""Remove pulled images that no kept release uses: Docker keeps each under its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.ledger import releases

if TYPE_CHECKING:
    from collections.abc import Collection

    from bedstone.release.context import Rollout


def drop(rollout: Rollout, kept: Collection[str]) -> int:
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
