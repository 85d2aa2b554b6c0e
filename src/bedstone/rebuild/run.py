"""Rebuild a new, bare server from a destination: ``bedstone rebuild``.

Run by playbooks/rebuild.yml, once the roles have made what needs no data. The order: the pre-flight
checks (no change before they pass), the cluster to the end of the archived WAL, then the data that
is only in files: the ledger, the releases with their images, the uploads.
"""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.core import lock, names
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, releases
from bedstone.offsite import sync
from bedstone.postgres import content
from bedstone.postgres.server import Server
from bedstone.rebuild import cluster, files, hold, serve
from bedstone.rebuild import dumps as rebuild_dumps
from bedstone.rebuild import journal as rebuild_journal
from bedstone.storage import destinations
from bedstone.system.systemd import Systemd
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.backup.settings import Settings
    from bedstone.rebuild.journal import Journal
    from bedstone.storage.destinations import Destination, Destinations

logger = logging.getLogger(__name__)

# Debian's.
_SOCKET = "/var/run/postgresql"


def rebuild(
    name: str, target: datetime | None, *, as_of: datetime | None = None, asked: bool = True
) -> dict[str, Any]:
    """Restore everything, or go on where a killed call has stopped.

    Args:
        name: the destination's.
        target: the moment to go back to; None for all that was archived.
        as_of: read the destination as it was at this moment; None: as it is.
        asked: whether the operator has confirmed already.

    Returns:
        what was restored, for :func:`words`.

    Raises:
        RefusedError: this server holds data, or the destination has nothing for it; nothing was
            touched.
        BedstoneError: it failed; the same call goes on.

    """
    settings = backup_settings.load()
    known = destinations.load()
    destination = known.get(name).at(as_of)
    with ExitStack() as locks:
        purpose = f"bedstone rebuild --destination {name}"
        # A copy made from here during the rebuild would pass for the newest.
        locks.enter_context(lock.held(sync.LOCK, purpose))
        for app in settings.apps:
            for held in (app.app, f"{app.app}.backup"):
                locks.enter_context(lock.held(held, purpose))
        settle()
        journal = rebuild_journal.load()
        if journal is None or journal.phase == rebuild_journal.BESIDE:
            begun = journal if journal and journal.destination == name else None
            journal = _databases(settings, known, destination, target, begun, asked=asked)
        elif journal.destination != name:
            raise RefusedError(
                f"A rebuild from {journal.destination} is under way, and its cluster is in place.",
                hint=f"`bedstone rebuild --destination {journal.destination}` goes on with it.",
            )
        elif journal.phase == rebuild_journal.CLUSTER:
            _require_same_moment(journal, destination)
        if journal.phase == rebuild_journal.CLUSTER:
            warnings = _prepare_archive(known, cluster.of_host(settings))
            journal = _files(settings, destination, journal, warnings)
    return {**journal.facts, "destination": name, "phase": journal.phase}


def _require_same_moment(journal: Journal, destination: Destination) -> None:
    """Refuse to take the files from another state of the destination than the databases."""
    asked = None if destination.as_of is None else destination.as_of.isoformat()
    if asked == journal.as_of:
        return
    was = f"as of {journal.as_of}" if journal.as_of else "as it is now"
    again = f" --as-of {journal.as_of}" if journal.as_of else " without --as-of"
    raise RefusedError(
        f"The databases were restored from {journal.destination} {was}, and what follows them has"
        " to be from the same moment.",
        hint=f"`bedstone rebuild --destination {journal.destination}`{again} goes on.",
    )


def _databases(
    settings: Settings,
    known: Destinations,
    destination: Destination,
    target: datetime | None,
    begun: Journal | None,
    *,
    asked: bool,
) -> Journal:
    """Restore the databases: the cluster, or where no WAL was archived, each app's dump."""
    server = cluster.of_host(settings)
    if begun is not None and begun.facts.get("kind") == rebuild_dumps.KIND:
        _require_same_moment(begun, destination)
        dumps = rebuild_dumps.newest(settings, destination)
        journal = rebuild_dumps.restore(settings, dumps, destination, begun, say)
        return journal.at(rebuild_journal.CLUSTER)
    cluster.require_empty(server)
    _require_no_releases()
    stanza, found = None, None
    if known.point_in_time is not None and destination.pgbackrest is not None:
        stanza = Stanza(known, server=server)
        found = stanza.info(destination)
        # Right after an upgrade there may be none of the present cluster yet.
        if found.newest is not None:
            cluster.require_fit(found, server, destination, target)
        else:
            stanza = None
    dumps = {} if stanza else rebuild_dumps.newest(settings, destination)
    if stanza is None:
        rebuild_dumps.require(dumps, settings, destination, target)
    if not asked:
        _ask(destination)
    journal = rebuild_journal.begin(
        destination.name, target, cluster.data_directory(server), as_of=destination.as_of
    )
    if stanza is None or found is None:
        journal = rebuild_dumps.restore(settings, dumps, destination, journal, say)
        return journal.at(rebuild_journal.CLUSTER)
    try:
        ended = cluster.recover(stanza, destination, journal, settings, say)
        missing = cluster.require_ours(settings, ended, destination)
    except RefusedError:
        cluster.remove_side(journal)
        rebuild_journal.clear()
        raise
    warning = cluster.hole(found, ended) if target is None else None
    journal = journal.at(
        rebuild_journal.BESIDE,
        kind="cluster",
        backup=ended.label,
        lsn=ended.lsn,
        last_commit=ended.last_commit.astimezone(UTC).isoformat() if ended.last_commit else None,
        without_database=missing,
        warnings=[warning] if warning else [],
    )
    say(f"recovered to {ended.lsn}")
    journal = cluster.put_in_place(journal)
    cluster.start(journal, server)
    return journal


def _files(
    settings: Settings, destination: Destination, journal: Journal, warnings: list[str]
) -> Journal:
    """Restore what isn't in the databases."""
    configured = files.configuration(destination, say)
    warnings = [*journal.facts.get("warnings", []), *warnings, *configured["warnings"]]
    configured["warnings"] = warnings
    brought: dict[str, dict[str, Any]] = {}
    # A dump has its uploads with it.
    if journal.facts.get("kind") != rebuild_dumps.KIND:
        target = None if journal.target is None else datetime.fromisoformat(journal.target)
        brought, told = files.uploads(settings, destination, say, target)
        warnings += told
    return journal.at(rebuild_journal.FILES, **configured, media=brought)


def _prepare_archive(known: Destinations, server: Server) -> list[str]:
    """Make the repositories that lack one while nothing is archived yet; return warnings.

    Later, pgBackRest would refuse it whenever it is just archiving.
    """
    if known.point_in_time is None:
        return []
    try:
        Stanza(known, server=server).create()
    except BedstoneError as error:
        # The next archiving run reports what to do; the data needn't wait for it.
        return [f"Archiving isn't prepared everywhere: {error.message}"]
    return []


def prepare() -> None:
    """Check that the server is new, hold its backups back, and settle a rebuild that was killed.

    Needs neither configuration nor Bedstone on the server: a bare one has none.

    Raises:
        RefusedError: the server has data; nothing was changed.

    """
    if rebuild_journal.load() is None:
        try:
            server = cluster.of_host(backup_settings.load())
        except BedstoneError:
            server = Server(_SOCKET, cluster.PORT)
        # `rebuild` counts row by row; but by then PostgreSQL archives nothing.
        if found := content.tables_with_content(server):
            raise RefusedError(
                f"This server has data in its databases ({', '.join(found)}), and a rebuild is for"
                " a new server: nothing was touched.",
                hint="Is its address in hosts.yml the new one's? On a server with data restore.yml"
                " brings an app's data back.",
            )
    hold.hold()
    settle()


def serve_kept(apps: Sequence[str]) -> dict[str, list[str]]:
    """Start the releases of apps that came back; return those of which none did, as `without`.

    Raises:
        BedstoneError: a release doesn't start.

    """
    journal = rebuild_journal.load()
    kept = journal.facts.get("releases") or {} if journal is not None else {}
    served = [app for app in apps if app in kept]
    for app in served:
        serve.serve(app, say)
    return {"served": served, "without": [app for app in apps if app not in kept]}


def settle() -> None:
    """Finish the renames of a rebuild that was killed between them."""
    journal = rebuild_journal.load()
    if journal is None or journal.phase != rebuild_journal.SWAPPING:
        return
    cluster.rename(journal)
    server = cluster.of_host(backup_settings.load())
    cluster.start(journal, server)
    journal.at(rebuild_journal.CLUSTER)


def finish() -> dict[str, Any]:
    """Check that WAL is archived again, begin a full backup, and remove the rebuild's journal.

    Raises:
        RefusedError: no rebuild is under way.
        BedstoneError: the log doesn't arrive at a destination.

    """
    journal = rebuild_journal.load()
    if journal is None or journal.phase != rebuild_journal.FILES:
        raise RefusedError(
            "There is no rebuild to finish on this server.",
            hint="`bedstone rebuild --destination NAME` begins one.",
        )
    known = destinations.load()
    archived = {}
    if known.point_in_time is not None:
        stanza = Stanza(known, server=cluster.of_host(backup_settings.load()))
        for destination in stanza.repositories:
            archived[destination.name] = stanza.check(destination)
        Systemd().start_soon(names.FULL_BACKUP_UNIT)
    cluster.remove_former(journal)
    rebuild_journal.clear()
    return {
        **journal.facts,
        "destination": journal.destination,
        "phase": "done",
        "archived": archived,
    }


def _require_no_releases() -> None:
    with database.opened() as connection:
        apps = releases.known_apps(connection)
    if apps:
        raise RefusedError(
            f"Releases of {', '.join(apps)} serve on this server: nothing was touched.",
            hint="A rebuild is for a new server. `bedstone restore APP` brings an app's data back.",
        )


def _ask(destination: Destination) -> None:
    if not sys.stdin.isatty():
        raise RefusedError(
            "A rebuild asks before it begins, and nobody is there to answer.",
            hint="Add --yes when you are sure.",
        )
    answer = input(
        f"The empty databases of this server are replaced by what is at {destination.name}"
        f" ({destination.words()}). Type its name to go on: "
    )
    if answer.strip() != destination.name:
        raise RefusedError("That wasn't its name: nothing was touched.")


def say(text: str) -> None:
    """Report progress to the operator."""
    logger.info("  %s", text)
