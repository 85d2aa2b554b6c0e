"""Show pending upgrades of PostgreSQL, and what an upgrade has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import lock
from bedstone.postgres.debian_cluster import AUTOMATIC, all_clusters
from bedstone.upgrade import journal, pending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone.core.terminal import Paint


def upgrade_status() -> dict[str, Any] | None:
    """Return what is to be said of upgrades, or None where no PostgreSQL serves."""
    clusters = all_clusters()
    serving = [each for each in clusters if each.starts() == AUTOMATIC]
    interrupted = journal.load() is not None and lock.owner(journal.LOCK) is None
    if not serving and not interrupted:
        return None
    waits = pending.waiting(serving[-1].major) if serving else None
    last = journal.recorded("last")
    resting = [each.major for each in clusters if last and each.major == last["other"]]
    return {
        "serving": [each.major for each in serving],
        "interrupted": interrupted,
        "waiting": {
            "package": waits.package,
            "installed": waits.installed,
            "candidate": waits.candidate,
            "since": waits.since.isoformat(timespec="seconds"),
            "days": waits.days,
            "late": waits.late,
        }
        if waits
        else None,
        "resting": {"major": resting[0], "since": last["at"]} if resting and last else None,
    }


def problems(shown: Mapping[str, Any] | None) -> list[str]:
    """Return what needs attention."""
    if shown is None:
        return []
    said = []
    if shown["interrupted"]:
        said.append(
            "PostgreSQL: an upgrade was interrupted; `systemctl start bedstone-upgrade` settles it"
        )
    if len(shown["serving"]) > 1:
        majors = " and ".join(map(str, shown["serving"]))
        said.append(f"PostgreSQL: the clusters of {majors} both start at boot: `pg_lsclusters`")
    if (found := shown["waiting"]) and found["late"]:
        said.append(
            f"PostgreSQL: {found['candidate']} has waited for {found['days']} days, maybe with"
            " a security fix: `bedstone upgrade postgresql`"
        )
    return said


def lines(shown: Mapping[str, Any] | None, paint: Paint) -> Iterator[str]:
    """Yield a line for a pending upgrade, and one for what is kept from before the last one."""
    if shown is None:
        return
    if found := shown["waiting"]:
        text = f"{found['package']} {found['candidate']} waits (`bedstone upgrade postgresql`)"
        yield paint("red" if found["late"] else "yellow", text)
    if resting := shown["resting"]:
        yield (
            f"PostgreSQL {resting['major']} of before the upgrade is kept, stopped, since"
            f" {resting['since'][:10]} (`bedstone upgrade postgresql --drop-old`)"
        )
