"""Check that each copy of the databases is there, connected, and not far behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import age
from bedstone.core import disk as space
from bedstone.notify.alarms import Alarm
from bedstone.replica import picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

# A promotion loses what is behind: more than this is no moment's burst.
BEHIND_BYTES = 256 * 1024 * 1024
BEHIND_SECONDS = 300
_LOG = "`tail -n 20 /var/log/postgresql/postgresql-*-main.log`"


def gather() -> dict[str, Any]:
    """Return how the copies are; nothing on a server without."""
    return picture.gather() or {}


def judge(found: Mapping[str, Any], _now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for each copy that is not one, or not a recent one."""
    if not found:
        return
    if found["primary"]:
        yield from _standby(found["primary"], found["standby"])
        return
    if found["standby"]["in_recovery"]:
        yield Alarm(
            "replication/role",
            "red",
            "PostgreSQL is a standby, and by the inventory it is the primary: apps can't write",
            "`sudo bedstone promote`, or docs/replica.md if another server was promoted",
        )
        return
    for each in found["replicas"]:
        yield from _replica(each["name"], each["slot"])


def _standby(primary: str, found: Mapping[str, Any]) -> Iterator[Alarm]:
    if not found["in_recovery"]:
        yield Alarm(
            "replication/role",
            "red",
            f"PostgreSQL is a primary, and by the inventory it is a copy of {primary}",
            "after `bedstone promote`, move both hosts in hosts.yml and run site.yml;"
            " else `sudo bedstone replica follow`",
        )
    elif found["receiver"] != "streaming":
        last = found["replayed_seconds"]
        since = f"; the newest change here is {age.humanize(last)} old" if last else ""
        yield Alarm(
            "replication/connection",
            "red",
            f"this copy of {primary}'s databases gets no changes{since}",
            f"{_LOG}; if it says that WAL was removed or speaks of timelines,"
            " `sudo bedstone replica seed`",
        )
    elif found["paused"]:
        yield Alarm(
            "replication/paused",
            "red",
            f"this copy of {primary}'s databases doesn't replay what it gets",
            f"{_LOG}; after a raised setting, site.yml raises it here, too",
        )
    elif found["behind_bytes"] > BEHIND_BYTES:
        yield _late("this copy", found["behind_bytes"], None)


def _replica(name: str, slot: Mapping[str, Any] | None) -> Iterator[Alarm]:
    if slot is None:
        yield Alarm(
            f"replication/{name}",
            "red",
            f"the copy on {name} has no replication slot",
            "`sudo bedstone replica prepare` here, then `sudo bedstone replica seed` there",
        )
    elif slot["wal_status"] == "lost":
        yield Alarm(
            f"replication/{name}",
            "red",
            f"the copy on {name} was away for so long that WAL it needs is gone",
            f"`sudo bedstone replica seed` on {name}",
        )
    elif not slot["active"]:
        yield Alarm(
            f"replication/{name}",
            "red",
            f"the copy on {name} is not connected; {space.human(slot['kept_bytes'] or 0)} of WAL"
            " are kept for it",
            f"on {name}: `systemctl status 'postgresql@*'`, {_LOG}",
        )
    elif _is_late(slot):
        yield _late(f"the copy on {name}", slot["behind_bytes"] or 0, slot["behind_seconds"])


def _is_late(slot: Mapping[str, Any]) -> bool:
    size, seconds = slot["behind_bytes"] or 0, slot["behind_seconds"] or 0
    return bool(size > BEHIND_BYTES or seconds > BEHIND_SECONDS)


def _late(which: str, size: int, seconds: float | None) -> Alarm:
    late = f" ({age.humanize(seconds)})" if seconds else ""
    return Alarm(
        "replication/late",
        "warning",
        f"{which} is {space.human(size)} behind{late}",
        "`bedstone status` again; if it grows, look at disk and network of both servers, and at"
        " long queries on the copy",
    )
