"""Fetch a cluster's files, replay its WAL as PostgreSQL's own user, and return where it ended.

The cluster gets separate settings, next to its directory: Debian keeps the origin's elsewhere, and
what an administrator has set in it (libraries, sockets, an archive) doesn't apply here. As it takes
no session before it is promoted, it needs none of the origin's numbers of sessions; prepared
transactions are the exception, which are read from its control file. It archives nothing.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core.process import tail
from bedstone.postgres import queries, temporary
from bedstone.postgres import server as postgres
from bedstone.postgres.programs import home_of
from bedstone.postgres.server import USER, Server
from bedstone.postgres.temporary import ThrowawayError
from bedstone.wal import fetch, segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.storage.destinations import Destination
    from bedstone.wal.stanza import Stanza

_RAN_OUT = "recovery ended before configured recovery target was reached"
_LAST_TIME = re.compile(r"last completed transaction was at log time (\S+ \S+)")
_REDO_DONE = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")

_OPTIONS = {
    # No session before it is promoted.
    "hot_standby": "off",
    "wal_level": "replica",
    "archive_mode": "off",
    "shared_preload_libraries": "",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
}


@dataclass(frozen=True)
class Ended:
    """The end of a recovery.

    Attributes:
        at: when the last transaction of it was committed; None when it has none.
        lsn: where in the WAL.
        reached: it was promoted: at the target, or, without one, at the end of the WAL.
        ran_out: the WAL ended before the target.
        failure: the end of PostgreSQL's log when it wasn't promoted, or nothing.

    """

    at: datetime | None
    lsn: str
    reached: bool
    ran_out: bool = False
    failure: str = ""

    def last_segment(self, segment_bytes: int) -> int:
        """Return the place of the last segment that was needed in the row of all."""
        return segments.last_before(self.lsn, segment_bytes)


def fetched(
    stanza: Stanza,
    destination: Destination,
    place: Path,
    target: datetime | None,
    label: str,
    *,
    watch: Callable[[], None],
) -> tuple[Path, str]:
    """Fetch the files of a cluster; return their directory and the command that fetches its WAL.

    Raises:
        BedstoneError: it failed; says why in plain words.

    """
    home = place / "past"
    data = home / "data"
    account = _account()
    for directory in (home, data):
        directory.mkdir(mode=0o700)
        os.chown(directory, account.pw_uid, account.pw_gid)
    stanza.restore(destination, data, target=target, label=label, aside=home, watch=watch)
    automatic = data / "postgresql.auto.conf"
    command = _fetching(automatic.read_text(encoding="utf-8"))
    # The origin's own settings, and those of pgBackRest: what is needed is given here.
    automatic.write_text("")
    return data, command


def recovered(
    place: Path,
    data: Path,
    command: str,
    target: datetime | None,
    *,
    watch: Callable[[], None],
) -> Ended:
    """Replay the WAL, and return where that ended; the cluster is stopped afterwards.

    Args:
        place: the directory that is removed afterwards.
        data: the cluster's, as pgBackRest has restored it, or as a recovery that ran out of WAL has
            left it.
        command: fetches WAL.
        target: the moment to end at, or None for the end of the WAL.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        ThrowawayError: this server can't run such a cluster.

    """
    socket = place / "recovery"
    socket.mkdir(mode=0o700, exist_ok=True)
    account = _account()
    os.chown(socket, account.pw_uid, account.pw_gid)
    server = Server(str(socket), temporary.PORT, account.pw_name)
    _write_access(place)
    options = {
        **temporary.options(place, socket),
        **_OPTIONS,
        **own_settings(place, data),
        "restore_command": command,
    }
    if target is not None:
        moment = f"{target.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f+00}"
        options |= {"recovery_target_time": moment, "recovery_target_action": "promote"}
    log = place / "recovery.log"
    with temporary.launched(server, programs(data), data, log, options, network=True) as running:
        if running.is_promoted(watch):
            at, lsn = queries.end_of_recovery(server)
            running.shut_down()
            return Ended(at, lsn, reached=True)
    return _failed(running.said())


def own_settings(place: Path, data: Path) -> dict[str, str]:
    """Return the settings that a cluster of the past needs whatever it is started for."""
    return {
        "max_logical_replication_workers": "0",
        # Those that were prepared and not yet committed come along.
        "max_prepared_transactions": _controldata(data).get("max_prepared_xacts setting", "0"),
        "config_file": str(place / "postgresql.conf"),
        "hba_file": str(place / "pg_hba.conf"),
        "ident_file": str(place / "pg_ident.conf"),
    }


def programs(data: Path) -> Path:
    """Return the programs of the PostgreSQL that a cluster is of.

    Raises:
        ThrowawayError: this server doesn't have them.

    """
    major = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    found = home_of(major)
    if not (found / "postgres").exists():
        raise ThrowawayError(
            f"The cluster is of PostgreSQL {major}, which this server doesn't have.",
            hint=f"Install postgresql-{major}: files of a cluster fit their own version only.",
        )
    return found


def segment_bytes(data: Path) -> int:
    """Return the size of a cluster's WAL segments."""
    return int(_controldata(data).get("Bytes per WAL segment", segments.SEGMENT_BYTES))


def _controldata(data: Path) -> dict[str, str]:
    server = Server("", 0, _account().pw_name)
    said = postgres.call(
        server, server.command(str(programs(data) / "pg_controldata"), str(data)), timeout=60
    ).stdout
    pairs = (line.partition(":") for line in said.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _fetching(settings: str) -> str:
    command = fetch.command_of(settings)
    # One after the other, without a queue: production's is not for us.
    command = re.sub(r" --spool-path=\S+", "", command)
    return fetch.guarded(
        command.replace(" archive-get ", " --no-archive-async --log-level-file=off archive-get ", 1)
    )


def _write_access(place: Path) -> None:
    for name, text in (
        ("postgresql.conf", ""),
        # The socket's directory controls the access.
        ("pg_hba.conf", "local all all trust\n"),
        ("pg_ident.conf", ""),
    ):
        path = place / name
        path.write_text(text)
        path.chmod(0o644)


def _failed(log: str) -> Ended:
    time, done = _LAST_TIME.findall(log), _REDO_DONE.findall(log)
    return Ended(
        datetime.fromisoformat(time[-1]) if time else None,
        done[-1] if done else "0/0",
        reached=False,
        ran_out=_RAN_OUT in log,
        failure=tail(log) or "PostgreSQL said nothing.",
    )


def _account() -> pwd.struct_passwd:
    return pwd.getpwnam(USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
