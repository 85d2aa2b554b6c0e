"""Prepare the repositories and wait until WAL arrives in each: the end of a convergence."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core import disk, paths
from bedstone.core.errors import RefusedError
from bedstone.ledger import database, observations
from bedstone.ledger.kinds import WAL
from bedstone.postgres import queries
from bedstone.wal import archiver, observe
from bedstone.wal.errors import UnreachableError

if TYPE_CHECKING:
    from bedstone.storage.destinations import Destination
    from bedstone.wal.stanza import Stanza

_SETTINGS = "/etc/pgbackrest/pgbackrest.conf"
_QUEUE = re.compile(r"^archive-push-queue-max=(\d+)MB$", re.MULTILINE)
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Ready:
    """The result of :func:`ready`.

    Attributes:
        created: destinations that got a repository.
        without_backup: those that have none of this cluster yet.
        warnings: sentences about those that can't be reached just now, but could be before, and
            about too little space for the WAL that waits until then.

    """

    created: tuple[str, ...]
    without_backup: tuple[str, ...]
    warnings: tuple[str, ...]


def prepare(stanza: Stanza, *, new_cluster: bool = False) -> Ready:
    """Make what is missing, and return once WAL has arrived at each destination.

    Args:
        stanza: the cluster.
        new_cluster: it replaces the one whose WAL is there: begin a new archive next to it.

    Raises:
        BedstoneError: PostgreSQL archives nothing; a destination can't be reached and never could;
            it belongs to another cluster or has another key; WAL doesn't arrive.

    """
    _require_archiving(stanza)
    queue = _too_long_a_queue(stanza)
    created, warnings = [], [queue] if queue else []
    reached: list[Destination] = []
    for destination in stanza.repositories:
        try:
            if new_cluster:
                # It can be reached, and is of the cluster before.
                stanza.info(destination)
            elif not stanza.is_ours(destination):
                created.append(destination.name)
        except UnreachableError as error:
            if not _seen_before(destination):
                raise
            # A failure at a destination must not keep this server from being configured.
            warnings.append(error.message)
            observe.measure(stanza, destination)
        else:
            reached.append(destination)
    if new_cluster:
        stanza.upgrade()
    elif created:
        stanza.create()
    segment = stanza.switch()
    for destination in reached:
        stanza.arrived(destination, segment)
        observe.measure(stanza, destination)
    without = [found.name for found in reached if stanza.info(found).newest is None]
    return Ready(tuple(created), tuple(without), tuple(warnings))


def _require_archiving(stanza: Stanza) -> None:
    health = archiver.health(stanza.server, stanza.settings.archive_timeout_seconds)
    if not health.on:
        raise RefusedError(
            "PostgreSQL doesn't archive its WAL on this server.",
            hint="Role postgresql turns it on by `postgresql_archive_command: pgbackrest"
            f" --stanza={stanza.name} archive-push %p` and a restart.",
        )


def _too_long_a_queue(stanza: Stanza) -> str | None:
    """Return a warning if WAL that waits for a destination could fill the database's disk."""
    try:
        settings = paths.host(_SETTINGS).read_text(encoding="utf-8")
    except OSError:
        return None
    found = _QUEUE.search(settings)
    most = int(found[1]) * _MEBIBYTE if found else 0
    log = paths.host(queries.data_directory(stanza.server)) / "pg_wal"
    free = disk.free_bytes(log)
    if most <= free // 2:
        return None
    return (
        f"while a destination is away, up to {disk.human(most)} of WAL is kept at {log}, where"
        f" only {disk.human(free)} is free: a database whose disk is full stops. Give it more"
        " room, or set `pgbackrest_queue_max_mb` to less than half of that."
    )


def _seen_before(destination: Destination) -> bool:
    with closing(database.connect()) as connection:
        found = observations.last_seen(connection, destination=destination.name, kind=WAL)
    return any(arrival.checked_at is not None for arrival in found)
