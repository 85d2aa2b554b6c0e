"""Stop an app and forget it on this server; what it has stored stays."""

from __future__ import annotations

from bedstone import container, files, ledger, lock, maintenance, nginx, paths, slots
from bedstone.rollout.context import Host
from bedstone.rollout.ended import end
from bedstone.rollout.image import image_name


def retire(app: str, host: Host | None = None) -> None:
    """Stop an app's units and remove its containers, network, images and static files.

    Its database, its uploads below /srv/bedstone and its backups stay.

    Raises:
        BedstoneError: somebody else is at it, or a unit doesn't stop.

    """
    host = host or Host()
    with lock.held(app, f"bedstone retire {app}"), ledger.opened() as connection:
        end(host, app, slots.keys(app), seconds=None)
        for name in host.docker.containers(f"{container.LABEL_APP}={app}"):
            host.docker.remove(name)
        host.docker.remove_network(f"bedstone-{app}")
        for tag in host.docker.tags(f"bedstone/{app}"):
            host.docker.untag(image_name(app, tag))
        host.docker.remove_dangling(f"{container.LABEL_APP}={app}")
        # It would close the next app of that name.
        maintenance.turn_off(app)
        if nginx.linked(app):
            nginx.link(app, None)
        files.remove_tree(paths.served(app) / "static")
        files.remove_tree(paths.app_state(app))
        with ledger.transaction(connection):
            connection.execute("DELETE FROM apps WHERE app = ?", (app,))
