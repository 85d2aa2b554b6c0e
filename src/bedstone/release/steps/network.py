"""Create the app's Docker network."""

from __future__ import annotations

from bedstone.apps import network
from bedstone.core.errors import BedstoneError
from bedstone.release.context import Rollout
from bedstone.release.steps import uploads


def create_network(rollout: Rollout) -> str:
    """Make what the containers stand on: network, addresses, the directory of uploads.

    Raises:
        BedstoneError: the app has a list of destinations that would not hold on this network.

    """
    app = rollout.app
    subnet = network.ensure(rollout.host.docker, app)
    if app.limited and not network.is_limited(app.name):
        raise BedstoneError(
            f"The network of {app.name} was made by an earlier version: its containers could"
            " connect to more than `egress` lists.",
            hint=f"Stop all of its containers once: {network.made_again(app.name)}.",
        )
    for service in app.http_services:
        for key in service.keys(rollout.slot):
            rollout.addresses[key] = network.address(app.name, key, subnet)
    uploads.share(rollout)
    return subnet


def undo_create_network(rollout: Rollout) -> None:
    """Leave the uploads to the release that serves; the network stays."""
    uploads.unshare(rollout)
