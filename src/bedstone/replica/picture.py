"""Show how the copies of the databases are: on the primary and on a standby."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import age
from bedstone.core import disk as space
from bedstone.postgres import replication
from bedstone.replica import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone.core.terminal import Paint


def gather() -> dict[str, Any] | None:
    """Return what `bedstone status --json` prints, or None where nothing is replicated.

    The keys are ``primary`` (the host that this server follows, or None), ``standby`` (what the
    server says of its recovery) and ``replicas`` (each with ``name`` and what its slot says, which
    is None without a slot).

    Raises:
        BedstoneError: PostgreSQL doesn't answer.

    """
    found = settings.find()
    if found is None:
        return None
    slots = replication.slots(found.server)
    return {
        "primary": found.primary.name if found.primary else None,
        "standby": replication.standby(found.server),
        "replicas": [{"name": each.name, "slot": slots.get(each.slot)} for each in found.replicas],
    }


def lines(shown: Mapping[str, Any] | None, paint: Paint) -> Iterator[str]:
    """Yield a line for the server's own recovery and for each standby."""
    if not shown:
        return
    if shown["primary"]:
        yield f"PostgreSQL: {_standby(shown, paint)}"
    for each in shown["replicas"]:
        yield f"copy on {each['name']}: {_replica(each['slot'], paint)}"


def _standby(shown: Mapping[str, Any], paint: Paint) -> str:
    found = shown["standby"]
    if not found["in_recovery"]:
        return paint("red", f"a primary, and the inventory has it as a copy of {shown['primary']}")
    words = f"a copy of {shown['primary']}"
    if found["receiver"] != "streaming":
        return paint("red", f"{words}, not connected")
    return f"{words}, {space.human(found['behind_bytes'])} behind"


def _replica(slot: Mapping[str, Any] | None, paint: Paint) -> str:
    if slot is None:
        return paint("red", "no slot")
    if not slot["active"]:
        state = "must be seeded again" if slot["wal_status"] == "lost" else "not connected"
        return paint("red", state)
    seconds = slot["behind_seconds"]
    late = f", {age.humanize(seconds)}" if seconds and seconds >= 1 else ""
    return f"{slot['state']}, {space.human(slot['behind_bytes'] or 0)} behind{late}"
