"""Check whether PostgreSQL's WAL is being archived now, and the cause if it isn't."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bedstone.core import age
from bedstone.postgres import queries

if TYPE_CHECKING:
    from bedstone.postgres.server import Server

# So many finished segments wait at a busy moment without anything being wrong.
MANY_READY = 32


@dataclass(frozen=True)
class Health:
    """The state of archiving; seconds are ages, None for never.

    Attributes:
        on: whether PostgreSQL archives at all.
        archived: the last segment that was archived.
        archived_seconds: how long ago.
        failed: the last segment that could not be archived at some time.
        failed_seconds: how long ago.
        ready: finished segments that wait.
        ready_seconds: since when the oldest of them waits.
        waiting_bytes: how much disk they take.
        problem: what is wrong and where to look, or None.

    """

    on: bool
    archived: str | None
    archived_seconds: float | None
    failed: str | None
    failed_seconds: float | None
    ready: int
    ready_seconds: float | None
    waiting_bytes: int
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as `bedstone status --json` prints it."""
        return asdict(self)


def health(server: Server, archive_timeout_seconds: int) -> Health:
    """Return how archiving is on this server.

    Args:
        server: the local PostgreSQL server.
        archive_timeout_seconds: when an unfinished segment is archived at the latest.

    Raises:
        PostgresError: it doesn't answer.

    """
    return judge(queries.archiver(server), archive_timeout_seconds)


def judge(found: dict[str, Any], archive_timeout_seconds: int) -> Health:
    """Return what the server's own figures amount to."""
    ready = int(found["ready"])
    return Health(
        on=found["mode"] != "off" and bool(found["command"]),
        archived=found["archived"],
        archived_seconds=found["archived_seconds"],
        failed=found["failed"],
        failed_seconds=found["failed_seconds"],
        ready=ready,
        ready_seconds=found["ready_seconds"],
        waiting_bytes=ready * int(found["segment_bytes"]),
        problem=_problem(found, archive_timeout_seconds),
    )


def _problem(found: dict[str, Any], archive_timeout_seconds: int) -> str | None:
    if found["mode"] == "off" or not found["command"]:
        return (
            "PostgreSQL doesn't archive its WAL (`archive_mode` is off): run `provision.yml`, whose"
            " role `postgresql` turns it on"
        )
    ready = int(found["ready"])
    waited = found["ready_seconds"] or 0.0
    look_at = "`tail /var/log/pgbackrest/*archive-push*.log`, `bedstone wal list`"
    if found["failing"]:
        return (
            f"WAL isn't archived: {found['failed']} could not be sent, last tried"
            f" {age.humanize(found['failed_seconds'])} ago, {ready} segments wait: {look_at}"
        )
    if ready and waited > 2 * archive_timeout_seconds:
        return (
            f"WAL isn't archived: {ready} segments wait, the oldest for {age.humanize(waited)}:"
            f" {look_at}"
        )
    if ready > MANY_READY:
        return f"WAL is archived more slowly than it is written: {ready} segments wait: {look_at}"
    return None
