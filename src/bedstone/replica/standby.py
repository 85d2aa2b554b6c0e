"""Make this server's PostgreSQL a standby: copy the primary, or follow it with the data here.

Data that is not a copy of the primary is never removed: a host that is named by mistake, or an old
primary with rows that no one else has.
"""

from __future__ import annotations

import os
import pwd
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.core import files, lock
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import replication
from bedstone.postgres.server import USER, PostgresError
from bedstone.replica import settings

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.postgres.debian_cluster import Cluster
    from bedstone.replica.settings import Primary, Settings

LOCK = "postgresql.replica"
SEED = "`sudo bedstone replica seed`"
SIGNAL = "standby.signal"
_STREAM_SECONDS = 30.0
_POLL_SECONDS = 0.5
# By their names in pg_controldata and in postgresql.conf: a standby with less doesn't start.
_MIRRORED = {
    "max_connections": "max_connections",
    "max_worker_processes": "max_worker_processes",
    "max_wal_senders": "max_wal_senders",
    "max_prepared_xacts": "max_prepared_transactions",
    "max_locks_per_xact": "max_locks_per_transaction",
}


@dataclass
class Outcome:
    """What was done: whether anything changed, and what the operator decides."""

    changed: bool = False
    warnings: list[str] = field(default_factory=list)


def is_standby(cluster: Cluster) -> bool:
    """Return whether the cluster starts as a standby."""
    return (cluster.data / SIGNAL).exists()


def follow() -> Outcome:
    """Let this server follow its primary, without removing any data but that of an empty cluster.

    Raises:
        RefusedError: the cluster holds data of its own.
        BedstoneError: the primary doesn't answer, or PostgreSQL doesn't start.

    """
    found, primary = settings.standby()
    with lock.held(LOCK, "bedstone replica follow"):
        cluster = found.cluster
        if is_standby(cluster):
            changed = not cluster.running()
            if changed:
                cluster.start()
        elif cluster.is_empty():
            changed = True
            _copy(found, primary)
        else:
            changed = True
            _demote(cluster, primary)
            cluster.start()
        outcome = Outcome(changed=changed | _drop_slots(found))
        if not _streams(found):
            outcome.warnings.append(
                f"PostgreSQL here is a standby that gets nothing from {primary.name}. If its log"
                f" (/var/log/postgresql) speaks of a timeline or of removed WAL, {SEED} copies"
                " the primary again"
            )
        return outcome


def seed(*, discard: bool = False) -> str | None:
    """Copy the primary again, in place of the data that is there; return where that was kept.

    Args:
        discard: also where the data is no standby's; it is put aside, not removed.

    Raises:
        RefusedError: the cluster holds data of its own.
        BedstoneError: the primary doesn't answer, or the copy failed; the data is what it was.

    """
    found, primary = settings.standby()
    with lock.held(LOCK, "bedstone replica seed"):
        cluster = found.cluster
        own = not is_standby(cluster) and not cluster.is_empty()
        if own and not discard:
            raise RefusedError(
                f"PostgreSQL {cluster.name} holds data of its own and is no standby.",
                hint="If a copy of the primary is to take its place: `sudo bedstone replica seed"
                " --discard`. The data is put aside, next to the new one.",
            )
        kept = _copy(found, primary, keep=own)
        if not _streams(found):
            raise BedstoneError(
                f"The copy of {primary.name} is there, and nothing arrives from it.",
                hint="`tail -n 20 /var/log/postgresql/postgresql-*-main.log`",
            )
        return str(kept) if kept else None


def _copy(found: Settings, primary: Primary, *, keep: bool = False) -> Path | None:
    cluster = found.cluster
    if replication.identify(primary.conninfo).in_recovery:
        raise RefusedError(
            f"{primary.name} is a standby itself.", hint="docs/replica.md says how to promote one."
        )
    ran = cluster.running()
    new = cluster.data.with_name(f"{cluster.data.name}.seeding")
    files.remove_tree(new)
    cluster.stop()
    try:
        replication.renew_slot(primary.conninfo, primary.slot)
        replication.base_backup(cluster, primary.conninfo, primary.slot, new)
    except BaseException:
        files.remove_tree(new)
        if ran:
            cluster.start()
        raise
    _signal(new)
    _raise_settings(cluster, new)
    old = cluster.data.with_name(f"{cluster.data.name}.before-{datetime.now(UTC):%Y%m%d_%H%M%S}")
    if cluster.data.exists():
        cluster.data.rename(old)
    new.rename(cluster.data)
    files.sync_directory(cluster.data.parent)
    cluster.start()
    if keep:
        return old
    files.remove_tree(old)
    return None


def _demote(cluster: Cluster, primary: Primary) -> None:
    """Make a standby of an old primary, which keeps its data: a newer timeline is the primary's.

    Where it has written what the new primary hasn't got, it refuses to follow, and stays read-only.
    """
    theirs, ours = replication.identify(primary.conninfo), replication.identity(cluster)
    if theirs.system != ours.system:
        raise RefusedError(
            f"PostgreSQL {cluster.name} holds data of its own, which is no copy of"
            f" {primary.name}'s. Nothing was changed.",
            hint="Take the host out of the group `postgresql_replica`; or, to put its data aside,"
            " `sudo bedstone replica seed --discard`.",
        )
    if theirs.in_recovery or theirs.timeline <= ours.timeline:
        raise RefusedError(
            f"{primary.name} was not promoted, and this server is no standby. Nothing was changed.",
            hint=f"`sudo bedstone promote` on {primary.name}; or put the hosts back into their"
            " groups.",
        )
    cluster.stop()
    _signal(cluster.data)


def step_down() -> None:
    """Stop the primary, so that a standby can take its place; started again, it is read-only.

    A clean stop waits until the standbys have all that was written.

    Raises:
        RefusedError: it is no primary, or a standby doesn't stream.

    """
    found = settings.load()
    cluster, server = found.cluster, found.server
    with lock.held(LOCK, "bedstone demote"):
        if is_standby(cluster):
            raise RefusedError("PostgreSQL here is a standby already.")
        if cluster.running():
            seen = replication.slots(server)
            behind = [
                each.name
                for each in found.replicas
                if seen.get(each.slot, {}).get("state") != "streaming"
            ]
            if behind or not found.replicas:
                raise RefusedError(
                    f"No standby streams: {', '.join(behind) or 'there is none'}. Nothing was"
                    " changed.",
                    hint="`bedstone status` on both servers.",
                )
            cluster.stop()
        _signal(cluster.data)


def _drop_slots(found: Settings) -> bool:
    """Drop the slots that this server had for others when it was the primary: they keep WAL."""
    try:
        names = list(replication.slots(found.server))
    except PostgresError:
        return False
    for name in names:
        replication.drop_slot(found.server, name)
    return bool(names)


def _streams(found: Settings) -> bool:
    limit = time.monotonic() + _STREAM_SECONDS
    while True:
        try:
            if replication.standby(found.server)["receiver"] == "streaming":
                return True
        except PostgresError:
            pass
        if time.monotonic() > limit:
            return False
        time.sleep(_POLL_SECONDS)


def _signal(data: Path) -> None:
    path = data / SIGNAL
    files.write(path, "", mode=0o600)
    account = pwd.getpwnam(USER)
    os.chown(path, account.pw_uid, account.pw_gid)


def _raise_settings(cluster: Cluster, data: Path) -> None:
    """Give a new standby at least what its primary has; site.yml keeps that up."""
    said = replication.control_data(cluster, data)
    wanted = {name: int(said[f"{shown} setting"]) for shown, name in _MIRRORED.items()}
    lines = [
        f"{name} = {value}\n"
        for name, value in wanted.items()
        if value > int(replication.setting(cluster, name))
    ]
    if lines:
        path = cluster.settings / "conf.d" / "20-bedstone-standby.conf"
        files.write(path, path.read_text(encoding="utf-8") + "".join(lines))
