"""Create the app's Docker network."""

from __future__ import annotations

from bedstone.apps import network
from bedstone.release.context import Rollout
from bedstone.release.steps import uploads


def create_network(rollout: Rollout) -> str:
    """Make what the containers stand on: network, addresses, the directory of uploads."""
    app = rollout.app
    subnet = network.ensure(rollout.host.docker, app)
    for service in app.http_services:
        for key in service.keys(rollout.slot):
            rollout.addresses[key] = network.address(app.name, key, subnet)
    uploads.share(rollout)
    return subnet


def undo_create_network(rollout: Rollout) -> None:
    """Leave the uploads to the release that serves; the network stays."""
    uploads.unshare(rollout)
