"""Clean up after a release serves; no step here is undone."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.apps.limits import drain_seconds, stop_seconds
from bedstone.backup import catalog, create
from bedstone.backup import settings as backup_settings
from bedstone.core import files, names, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import releases
from bedstone.release import ledger_rebuild
from bedstone.release.steps import image, uploads
from bedstone.release.steps.stop import end, killed
from bedstone.storage import destinations
from bedstone.system.container import LABEL_APP

if TYPE_CHECKING:
    from bedstone.release.context import Rollout


def drain(rollout: Rollout) -> str:
    """Drain the old slot, stop what no longer serves, take over its uploads."""
    app, host = rollout.app, rollout.host
    wanted = set(app.slot_keys(rollout.slot))
    surplus = [key for key in slots.keys(app.name) if key not in wanted]
    if not surplus:
        uploads.hand_over(rollout)
        return "nothing ran before"
    seconds = drain_seconds(app)
    finished = host.nginx.wait_until_drained(slots.addresses(app.name, surplus), seconds)
    began = time.time()
    end(host, app.name, surplus, seconds=stop_seconds(tuple(app.services.values())))
    units = [names.slot_unit(app.name, key) for key in surplus]
    late = "" if finished else f" (requests were still open after {seconds:g} seconds)"
    given = uploads.hand_over(rollout)
    uploaded = f", uploads {given}" if given else ""
    return f"{', '.join(surplus)} stopped{late}{killed(host, units, began)}{uploaded}"


def prune(rollout: Rollout) -> str:
    """Remove images, static files and settings of releases beyond the ten kept."""
    app, docker = rollout.app.name, rollout.host.docker
    kept = {entry.id for entry in releases.kept(rollout.connection, app)} | {rollout.id}
    removed = 0
    for tag in docker.tags(names.image_repository(app)):
        if not names.is_image_of(tag, kept):
            docker.untag(names.image(app, tag))
            removed += 1
    removed += image.drop_pulled(rollout, kept)
    docker.remove_dangling(f"{LABEL_APP}={app}")
    for directory in (paths.release(app, "x").parent, paths.served(app) / "static"):
        if not directory.is_dir():
            continue
        for path in directory.iterdir():
            if path.name not in kept and path.name != "current":
                files.remove_tree(path)
    return f"{len(kept)} kept, {removed} images removed"


def lacks_backup(app: str) -> bool:
    """Return whether an app has data on this server and no full backup of it is here yet."""
    try:
        settings = backup_settings.of_app(app)
    except BedstoneError:
        return False
    return settings is not None and catalog.newest(settings.directory / app) is None


def first_backup(rollout: Rollout) -> str:
    """Start the app's first backup in a separate unit: the release doesn't wait for it.

    Until the first night there would be none, and what verifies backups would find nothing.
    """
    app = rollout.app.name
    unit = names.first_backup_unit(app)
    rollout.host.systemd.run_soon(
        unit,
        ["/usr/local/bin/bedstone", "backup", app, "--label", create.FIRST],
        description=f"The first backup of {app}",
        on_failure=names.failure_unit(unit),
        # What it leaves goes on to the other destinations, like the nightly one's.
        then=f"/usr/bin/systemctl start --no-block {names.COPY_UNIT}" if _has_copies() else None,
    )
    return f"in the background, see `systemctl status {unit}`"


def _has_copies() -> bool:
    return bool(destinations.load().remote)


def copies_leave_the_host() -> bool:
    """Return whether there are destinations besides this server; True when that is unknown."""
    try:
        return bool(destinations.load().remote)
    except BedstoneError:
        return True


def copy(rollout: Rollout) -> str:
    """Start to copy the release to the destinations, from which a lost server is rebuilt.

    By its log the database would come back as the release's migrations have left it, and with the
    last night's copies the app as it was before: code that is incompatible with its schema.
    """
    places = [place.name for place in destinations.load().remote]
    rollout.host.systemd.start_soon(names.COPY_UNIT)
    return f"to {', '.join(places)}, in the background"


def record(rollout: Rollout) -> str:
    """Make it the release that serves: from here on nothing is undone."""
    releases.commit(
        rollout.connection, rollout.app.name, rollout.id, rollout.slot, rollout.operation
    )
    # The ledger has decided. A full disk is no failure of the release: the next settling writes it.
    with suppress(OSError):
        ledger_rebuild.keep_record(rollout.connection, rollout.app.name, rollout.id)
        (rollout.directory.parent.parent / "retired.json").unlink(missing_ok=True)
        slots.write_serving(rollout.app.name, rollout.id, rollout.slot)
    return rollout.id
