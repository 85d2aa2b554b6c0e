"""Where no log was kept: each app's newest dump, with its uploads, from a destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone import copies, files, paths, restore_check
from bedstone import restore as restore_backup
from bedstone.errors import RefusedError
from bedstone.postgres import Server, identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bedstone.backup_settings import Settings
    from bedstone.copies import Remote
    from bedstone.destinations import Destination

DUMP = "dump"


def newest(settings: Settings, destination: Destination) -> dict[str, Remote]:
    """Return the newest full backup of each app's database at a destination.

    Raises:
        BedstoneError: the destination can't be reached, or was encrypted with another key.

    """
    found = {}
    for app in settings.apps:
        if app.database is None:
            continue
        # A release's restore point has no uploads and stands for no night.
        full = [entry for entry in copies.listed(destination, app.app) if entry.full]
        if full:
            found[app.app] = max(full, key=lambda entry: entry.started)
    return found


def require(
    found: Mapping[str, Remote],
    settings: Settings,
    destination: Destination,
    target: datetime | None,
) -> None:
    """Refuse when there is nothing to rebuild from.

    Raises:
        RefusedError: no backup at all, or a moment is asked for.

    """
    place = f"{destination.name} ({destination.words()})"
    if not found and any(app.database for app in settings.apps):
        raise RefusedError(
            f"There is no backup at {place}: neither the cluster's nor an app's. Nothing was"
            " touched.",
            hint="Is it the right destination, and its `path` the one of the server that is gone?",
        )
    if target is not None:
        raise RefusedError(
            f"There is no log at {place}, so no moment can be gone back to: only the newest dump of"
            " each app can be had. Nothing was touched.",
            hint="Leave --time away.",
        )


def restore(
    settings: Settings,
    found: Mapping[str, Remote],
    destination: Destination,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fetch and restore the dumps, uploads included; the caller holds the locks.

    Returns:
        what came back: the backups' names by app.

    Raises:
        BedstoneError: one isn't whole, or doesn't fit this server.

    """
    place = paths.ensure_private(paths.host("/var/cache/bedstone-rebuild"))
    server = Server(settings.socket, settings.port)
    names = {}
    try:
        for app, entry in found.items():
            directory = copies.fetch(destination, app, entry.name, place / app, kind=DUMP)
            plan = restore_check.check(
                settings,
                settings.app(app),
                directory,
                into=None,
                with_media=None,
                from_other_app=False,
                table=None,
            )
            done = restore_backup.carry_out(settings, plan, restart=False)
            if done.old_database is not None:
                # The empty one.
                server.execute(f"DROP DATABASE {identifier(done.old_database)}")
            names[app] = entry.name
            say(f"{app}: restored {entry.name}")
            files.remove_tree(place / app)
    finally:
        files.remove_tree(place)
    return {"dumps": names}
