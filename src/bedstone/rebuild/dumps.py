"""Restore each app's newest dump, with its uploads, where no WAL was archived."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.appdata import journal as restore_journal
from bedstone.core import files, paths
from bedstone.core.errors import RefusedError
from bedstone.offsite import copies
from bedstone.postgres.server import Server, identifier
from bedstone.restore import check
from bedstone.restore import run as restore_backup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bedstone.backup.settings import Settings
    from bedstone.offsite.copies import Remote
    from bedstone.rebuild.journal import Journal
    from bedstone.storage.destinations import Destination

DUMP = "dump"
# Of a journal: the databases come from dumps.
KIND = "dumps"


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
    journal: Journal,
    say: Callable[[str], None],
) -> Journal:
    """Fetch and restore the dumps, uploads included; the caller holds the locks.

    Each one is recorded when it is in its place: the next call goes on after a kill.

    Args:
        settings: this server's.
        found: the backup of each app.
        destination: where they are.
        journal: the rebuild's.
        say: called with the text of each one.

    Returns:
        The journal with what was restored: the backups' names by app.

    Raises:
        BedstoneError: one isn't whole, or doesn't fit this server.

    """
    place = paths.ensure_private(paths.host("/var/cache/bedstone-rebuild"))
    names = dict(journal.facts.get("dumps", {}))
    journal = journal.at(journal.phase, kind=KIND, dumps=names)
    try:
        for app, entry in found.items():
            if app in names:
                continue
            directory = copies.fetch(destination, app, entry.name, place / app, kind=DUMP)
            _put_in_place(settings, app, directory)
            names[app] = entry.name
            journal = journal.at(journal.phase, dumps=names)
            say(f"{app}: restored {entry.name}")
            files.remove_tree(place / app)
    finally:
        files.remove_tree(place)
    return journal


def _put_in_place(settings: Settings, app: str, directory: Path) -> None:
    server = Server(settings.socket, settings.port)
    restore_journal.recover(server, app)
    own = settings.app(app)
    if own.media is not None:
        # Nothing of the app was here yet.
        own.media.parent.mkdir(parents=True, exist_ok=True)
    plan = check.check(settings, own, directory)
    done = restore_backup.carry_out(settings, plan, restart=False)
    if done.old_database is not None:
        # The empty one.
        server.execute(f"DROP DATABASE {identifier(done.old_database)}")
    if done.old_media is not None:
        files.remove_tree(Path(done.old_media))
