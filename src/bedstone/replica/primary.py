"""Serve standbys from this server, and become the primary in another one's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import lock
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import replication
from bedstone.replica import settings
from bedstone.replica.standby import LOCK, is_standby

if TYPE_CHECKING:
    from bedstone.replica.settings import Settings


def prepare() -> bool:
    """Make the role and the slots of the standbys, drop those of others; return what changed."""
    found = settings.load()
    return _slots(found, {replica.slot for replica in found.replicas})


def forget() -> bool:
    """Drop all slots of standbys: without their reader they would only keep WAL."""
    return _slots(settings.load(), set())


def _slots(found: Settings, wanted: set[str]) -> bool:
    with lock.held(LOCK, "bedstone replica prepare"):
        server = found.server
        changed = bool(wanted) and replication.make_role(server)
        there = set(replication.slots(server))
        for name in sorted(wanted - there):
            replication.make_slot(server, name)
        for name in sorted(there - wanted):
            replication.drop_slot(server, name)
        return changed or wanted != there


def promote(*, force: bool = False) -> dict[str, Any]:
    """Make a primary of this standby; return how far it had come.

    Args:
        force: also when the old primary still answers, or can't be asked.

    Raises:
        RefusedError: it is no standby, or the old primary answers.
        BedstoneError: PostgreSQL doesn't run here, or the promotion failed.

    """
    found = settings.load()
    cluster, server, old = found.cluster, found.server, found.primary
    with lock.held(LOCK, "bedstone promote"):
        if not is_standby(cluster):
            raise RefusedError("PostgreSQL here is a primary already.")
        if not cluster.running():
            raise BedstoneError(
                "PostgreSQL doesn't run here.", hint=f"`sudo systemctl start {cluster.unit}`"
            )
        if old is not None and not force and replication.answers(old.address, old.port):
            raise RefusedError(
                f"The primary {old.name} still answers at {old.address}:{old.port}. Two primaries"
                " would each take writes that the other never gets. Nothing was changed.",
                hint=f"On {old.name}: `sudo bedstone demote` stops it when all it has written is"
                " here. Where it can't be reached, cut it off first (power, network), then"
                " `sudo bedstone promote --force`.",
            )
        before = replication.standby(server)
        replication.promote(server)
        return before


def as_text(found: Settings, before: dict[str, Any]) -> str:
    """Return what the operator does next."""
    old = found.primary.name if found.primary else "the old primary"
    return (
        f"PostgreSQL here is the primary. The newest transaction from {old} that it has is of"
        f" {before['replayed_at'] or 'before its start'}.\n"
        "Now, on your machine:\n"
        "  1. In hosts.yml, move this host from the group `postgresql_replica` to `postgresql`,"
        f" and {old} to `postgresql_replica` (or take it out while it is gone).\n"
        "  2. `ansible-playbook playbooks/site.yml -i INVENTORY`: the apps are released with the"
        " new address, backups and the archive go on from here."
    )
