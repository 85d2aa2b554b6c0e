"""What the containers stand on."""

from __future__ import annotations

import shutil
from pathlib import Path

from bedstone import network, paths
from bedstone.rollout.context import Rollout


def ground(rollout: Rollout) -> str:
    """Make what the containers stand on: network, addresses, the directory of uploads."""
    app = rollout.app
    subnet = network.ensure(rollout.host.docker, app)
    for service in app.http_services:
        rollout.addresses[service.name] = network.address(
            app.name, service.name, rollout.slot, subnet
        )
    if app.media is not None:
        media = paths.served(app.name) / "media"
        _own_media(media, rollout.uid, rollout.gid)
        # Uploads that nginx doesn't serve are the container's alone.
        media.chmod(0o700 if app.media.url is None else 0o755)
    return subnet


def _own_media(directory: Path, uid: int, gid: int) -> None:
    """Let the image's user write uploads, those made under another user's id too."""
    directory.mkdir(parents=True, exist_ok=True)
    status = directory.stat()
    if (status.st_uid, status.st_gid) == (uid, gid):
        return
    for path in directory.rglob("*"):
        shutil.chown(path, uid, gid)
    shutil.chown(directory, uid, gid)
