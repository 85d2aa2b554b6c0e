"""Stop an app that was removed from the settings; for 30 days it can be restored completely."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.apps import config, maintenance, slots
from bedstone.core import files, lock, names, paths
from bedstone.ledger import database, releases
from bedstone.release.steps.stop import end
from bedstone.system import container, nginx
from bedstone.system.host import Host

if TYPE_CHECKING:
    from pathlib import Path

KEPT_DAYS = 30
MARK = "retired.json"


def retire(app: str, host: Host | None = None) -> None:
    """Stop an app's units, and remove its containers and its network.

    Its images, releases and static files stay for :data:`KEPT_DAYS`; its database, its uploads
    below /srv/bedstone and its backups stay until an operator removes them.

    Raises:
        BedstoneError: another operation is running, or a unit doesn't stop.

    """
    host = host or Host()
    with lock.held(app, f"bedstone retire {app}"), database.opened() as connection:
        mark = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "domains": _domains(app)}
        end(host, app, slots.keys(app), seconds=None)
        host.docker.remove(*host.docker.containers(f"{container.LABEL_APP}={app}"))
        host.docker.remove_network(names.network(app))
        # Its subnet may be another app's by the time it is declared again.
        (paths.app_state(app) / "network.json").unlink(missing_ok=True)
        # It would close the next app of that name.
        maintenance.turn_off(app)
        if nginx.linked(app):
            nginx.link(app, None)
        paths.ensure_private(paths.app_state(app))
        files.write(_mark(app), json.dumps(mark, indent=2) + "\n", mode=0o600)
        slots.forget_serving(app)
        with database.transaction(connection):
            releases.forget_serving(connection, app)


def come_back(app: str) -> None:
    """Remove the record that an app was retired: a release of it serves."""
    _mark(app).unlink(missing_ok=True)


def retired() -> dict[str, datetime]:
    """Return the retired apps of which images and releases are here still, and since when."""
    found = {}
    for path in sorted((paths.state() / "apps").glob(f"*/{MARK}")):
        try:
            when = datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["at"])
        except (OSError, ValueError, KeyError, TypeError):
            # Nothing is removed by a date that can't be read.
            when = datetime.now(UTC)
        found[path.parent.name] = when
    return found


def until(since: datetime) -> datetime:
    """Return until when the images and releases of an app stay that was retired at a moment."""
    return since + timedelta(days=KEPT_DAYS)


def prune(host: Host | None = None) -> list[str]:
    """Remove images, releases and static files of apps that were retired a month ago.

    Returns:
        whose. What they have stored stays.

    """
    due = [app for app, since in retired().items() if until(since) <= datetime.now(UTC)]
    host = host or Host()
    removed = []
    for app in due:
        with lock.held(app, f"bedstone retire {app}"):
            if not _mark(app).exists() or slots.serving(app) is not None:
                continue
            for tag in host.docker.tags(names.image_repository(app)):
                host.docker.untag(names.image(app, tag))
            host.docker.remove_dangling(f"{container.LABEL_APP}={app}")
            files.remove_tree(paths.served(app) / "static")
            files.remove_tree(paths.app_state(app))
            removed.append(app)
    return removed


def _mark(app: str) -> Path:
    return paths.app_state(app) / MARK


def _domains(app: str) -> list[str]:
    serving = slots.serving(app)
    path = paths.release(app, serving[0]) / "app.json" if serving else None
    return list(config.load_file(path).domains) if path is not None and path.exists() else []
