"""Stream from a primary: what both sides say of it, base backups, slots and promotion.

SQL goes over the local socket. The other server is only asked in the replication protocol, with
the certificate that a connection string names; such a string holds no secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.core.errors import CommandError
from bedstone.core.names import REPLICATION_ROLE
from bedstone.core.process import run
from bedstone.postgres.programs import client, psql
from bedstone.postgres.server import PostgresError, Server, identifier, literal

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.postgres.debian_cluster import Cluster

# Of slots that are ours.
PREFIX = "bedstone_"
_ASK_SECONDS = 30.0
_COPY_SECONDS = 24 * 3600.0
_PROMOTE_SECONDS = 300

_SLOTS = """
SELECT json_build_object(
    'slot', s.slot_name, 'active', s.active, 'wal_status', s.wal_status,
    'state', r.state,
    'kept_bytes', pg_wal_lsn_diff(here.lsn, s.restart_lsn)::bigint,
    'behind_bytes', pg_wal_lsn_diff(here.lsn, r.replay_lsn)::bigint,
    'behind_seconds', extract(epoch FROM r.replay_lag))
  FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid,
       (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                    ELSE pg_current_wal_lsn() END AS lsn) here
 WHERE s.slot_type = 'physical' AND s.slot_name LIKE 'bedstone\\_%'
 ORDER BY s.slot_name;
"""
_STANDBY = """
SELECT json_build_object(
    'in_recovery', pg_is_in_recovery(),
    'receiver', (SELECT status FROM pg_stat_wal_receiver),
    'behind_bytes', CASE WHEN pg_is_in_recovery() THEN greatest(0, pg_wal_lsn_diff(
        coalesce((SELECT latest_end_lsn FROM pg_stat_wal_receiver), pg_last_wal_receive_lsn()),
        pg_last_wal_replay_lsn())::bigint) END,
    'replayed_at', pg_last_xact_replay_timestamp(),
    'replayed_seconds', extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()),
    'paused', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' END);
"""


@dataclass(frozen=True)
class Identity:
    """A cluster and its history.

    Attributes:
        system: the number that only this cluster and its copies have.
        timeline: counts promotions.
        in_recovery: whether it is a standby; None when that was not asked.

    """

    system: str
    timeline: int
    in_recovery: bool | None = None


def slots(server: Server) -> dict[str, dict[str, Any]]:
    """Return our slots on a server by name, each with the standby that uses it."""
    return {found["slot"]: found for found in server.rows(_SLOTS)}


def standby(server: Server) -> dict[str, Any]:
    """Return what a server says of its own recovery."""
    (found,) = server.rows(_STANDBY)
    return dict(found)


def make_role(server: Server) -> bool:
    """Make the role that standbys log in as, without a password; return whether it was missing."""
    if REPLICATION_ROLE in server.roles():
        return False
    server.execute(f"CREATE ROLE {identifier(REPLICATION_ROLE)} LOGIN REPLICATION;")
    return True


def make_slot(server: Server, name: str) -> None:
    """Make a slot, which keeps WAL from now on."""
    server.execute(f"SELECT pg_create_physical_replication_slot({literal(name)}, true);")


def drop_slot(server: Server, name: str) -> None:
    """Drop a slot, and end the session that uses it."""
    server.execute(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"  # noqa: S608
        f" WHERE slot_name = {literal(name)} AND active;\n"
        f"SELECT pg_drop_replication_slot({literal(name)});"
    )


def identify(conninfo: str) -> Identity:
    """Return what another server says it is.

    Raises:
        PostgresError: it doesn't answer, or refuses the certificate.

    """
    said = _ask(conninfo, "IDENTIFY_SYSTEM", "SHOW in_hot_standby").splitlines()
    system, timeline, *_ = said[0].split("|")
    return Identity(system, int(timeline), said[1] == "on")


def renew_slot(conninfo: str, name: str) -> None:
    """Drop a slot on another server, if it is there: pg_basebackup makes it."""
    try:
        _ask(conninfo, f"DROP_REPLICATION_SLOT {name} WAIT")
    except PostgresError as error:
        if "does not exist" not in error.details:
            raise


def answers(address: str, port: int) -> bool:
    """Return whether a server answers, even one that starts or stops and takes no session."""
    ask = [client("pg_isready"), "--quiet", "--timeout=5", f"--host={address}", f"--port={port}"]
    return run(ask, check=False).returncode in {0, 1}


def base_backup(cluster: Cluster, conninfo: str, slot: str, target: Path) -> None:
    """Copy another server's cluster into a directory, with a new slot from the copy's start on.

    Raises:
        PostgresError: the other server refuses, or the copy failed.

    """
    _call(
        [
            str(cluster.programs / "pg_basebackup"), f"--dbname={conninfo}", f"--pgdata={target}",
            "--wal-method=stream", "--create-slot", f"--slot={slot}", "--checkpoint=fast",
            "--no-password",
        ],
        seconds=_COPY_SECONDS,
    )  # fmt: skip


def control_data(cluster: Cluster, data: Path) -> dict[str, str]:
    """Return what pg_controldata prints of a directory of data."""
    said = _call([str(cluster.programs / "pg_controldata"), str(data)], seconds=_ASK_SECONDS)
    pairs = (line.partition(":") for line in said.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def identity(cluster: Cluster) -> Identity:
    """Return what a cluster of this host is, running or not."""
    found = control_data(cluster, cluster.data)
    return Identity(
        found["Database system identifier"], int(found["Latest checkpoint's TimeLineID"])
    )


def setting(cluster: Cluster, name: str) -> str:
    """Return a setting as the cluster's files have it."""
    command = [str(cluster.programs / "postgres"), "-C", name, "-D", str(cluster.settings)]
    return _call(command, seconds=_ASK_SECONDS).strip()


def promote(server: Server) -> None:
    """Let a standby begin a timeline of its own and take writes, once it has replayed all it has.

    Raises:
        PostgresError: it didn't within five minutes.

    """
    done = server.execute(
        f"SELECT pg_promote(true, {_PROMOTE_SECONDS})", timeout=_PROMOTE_SECONDS + 30
    )
    if done.strip() != "t":
        raise PostgresError(f"The promotion took more than {_PROMOTE_SECONDS} seconds.")
    server.execute("CHECKPOINT", timeout=None)


def _ask(conninfo: str, *commands: str) -> str:
    return _call(
        [
            *psql(f"{conninfo} replication=true"),
            *(part for command in commands for part in ("--command", command)),
        ],
        seconds=_ASK_SECONDS,
    )  # fmt: skip


def _call(command: list[str], *, seconds: float) -> str:
    # Not Server.environment: its options are for sessions with a database.
    environment = {"PGOPTIONS": "", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    as_user = Server("", 0).command(command[0], *command[1:])
    try:
        return run(as_user, env=environment, timeout=seconds, cwd="/").stdout
    except CommandError as error:
        lines = [line for line in error.details.splitlines() if line.strip()]
        reason = next((each for each in lines if "error" in each or "FATAL" in each), "")
        raise PostgresError(
            f"{command[0].rpartition('/')[2]}: {reason or error.message}", details=error.details
        ) from error
