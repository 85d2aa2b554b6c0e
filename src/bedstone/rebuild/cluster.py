"""Restore the whole cluster from a destination next to the empty one, then replace that."""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core import disk, files, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.core.process import run, tail
from bedstone.postgres import dump, temporary
from bedstone.postgres.programs import home_of
from bedstone.postgres.server import USER, Server
from bedstone.rebuild import journal as rebuild_journal
from bedstone.system.systemd import Systemd
from bedstone.wal import fetch, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone.backup.settings import Settings
    from bedstone.rebuild.journal import Journal
    from bedstone.storage.destinations import Destination
    from bedstone.wal.info import Info
    from bedstone.wal.stanza import Stanza

PORT = 5432
_SOCKET = "/run/bedstone-rebuild"
_STOP_SECONDS = 600.0
_START_SECONDS = 600.0
# What pgBackRest wrote for the recovery, and what would keep the cluster from archiving again.
_OF_RECOVERY = (
    "archive_mode", "restore_command", "recovery_target", "recovery_target_action",
    "recovery_target_inclusive", "recovery_target_lsn", "recovery_target_name",
    "recovery_target_time", "recovery_target_timeline", "recovery_target_xid",
)  # fmt: skip


@dataclass(frozen=True)
class Recovered:
    """The end of a recovery.

    Attributes:
        label: the backup that it began from.
        lsn: the last place in the log.
        last_commit: when the last transaction in it was committed; None when the log had none.
        databases: names of all databases.

    """

    label: str
    lsn: str
    last_commit: datetime | None
    databases: tuple[str, ...]


def of_host(settings: Settings) -> Server:
    """Return this host's PostgreSQL."""
    return Server(settings.socket, settings.port)


def data_directory(server: Server) -> Path:
    """Return the cluster's directory."""
    return Path(server.execute("SHOW data_directory").strip())


def require_empty(server: Server) -> None:
    """Refuse unless no table of any database has a row: a rebuild replaces all of it.

    Raises:
        RefusedError: names the tables.

    """
    names = server.rows(
        "SELECT to_json(datname::text) FROM pg_database WHERE NOT datistemplate AND datallowconn"
        " ORDER BY datname"
    )
    found = [
        f"{name}: {table} has {rows} rows"
        for name in names
        for table, rows in sorted(dump.count(server, name).items())
        if rows
    ]
    if found:
        raise RefusedError(
            "This server's databases aren't empty, and a rebuild replaces all of them: nothing was"
            " touched.",
            hint="A rebuild is for a new server. On one with data `bedstone restore APP` brings an"
            " app's data back, beside what is there.",
            details="\n".join(found[:10]),
        )


def require_fit(
    found: Info, server: Server, destination: Destination, target: datetime | None = None
) -> None:
    """Refuse what this server can't run.

    Raises:
        RefusedError: another major version of PostgreSQL, or a moment before its upgrade.

    """
    major = server.major()
    if found.version != str(major):
        raise RefusedError(
            f"The cluster at {destination.name} is of PostgreSQL {found.version}, and this server"
            f" has {major}.",
            hint=f'Set `postgresql_version: "{found.version}"` in the inventory, or take the'
            f" Debian release that has {found.version}, and begin with a bare server.",
        )
    begin = None if target is None else found.for_moment(target)
    if begin is not None and not found.is_own(begin):
        raise RefusedError(
            f"That moment is before the cluster at {destination.name} came to PostgreSQL"
            f" {found.version}. Nothing was touched.",
            hint="Rebuild without a moment; then `bedstone restore APP --time` brings an app's"
            " database of then back, where the programs of that version are installed, too.",
        )


def recover(
    stanza: Stanza,
    destination: Destination,
    journal: Journal,
    settings: Settings,
    say: Callable[[str], None],
) -> Recovered:
    """Restore the files into the side directory, recover them there to the end, and stop.

    The cluster that serves isn't touched. No client connects during that time; what PostgreSQL has
    to archive (the new timeline) it keeps until it is in its place.

    Raises:
        BedstoneError: it failed, or the target wasn't reached; the side directory is of no use
            then.

    """
    server = stanza.server
    side = journal.side
    data = Path(journal.data)
    target = None if journal.target is None else datetime.fromisoformat(journal.target)
    newest = stanza.info(destination).newest
    if newest is not None:
        disk.require(data.parent, newest.original_bytes, settings.reserve_bytes, "The rebuild")
    major = data.parent.name
    remove_side(journal)
    _make_directory(side)
    label = stanza.restore(destination, side, target=target)
    say(f"restored {label}; recovering what was archived since")
    written = (side / "postgresql.auto.conf").read_text(encoding="utf-8")
    command = fetch.guarded(fetch.command_of(written))
    with _running(major, side, server.port, command) as running:
        if not running.is_promoted(lambda: None):
            raise _failure(running.said(), destination)
        beside = running.server
        at, lsn, names = beside.rows(
            "SELECT json_build_array(pg_last_xact_replay_timestamp(),"
            " coalesce(pg_last_wal_replay_lsn(), pg_current_wal_lsn())::text,"
            " (SELECT json_agg(datname::text) FROM pg_database WHERE NOT datistemplate))"
        )[0]
        ended = Recovered(
            label=label,
            lsn=lsn,
            last_commit=datetime.fromisoformat(at) if at else None,
            databases=tuple(names),
        )
        for name in _OF_RECOVERY:
            beside.execute(f"ALTER SYSTEM RESET {name}")
        beside.execute("CHECKPOINT", timeout=None)
        running.shut_down()
    return ended


def require_ours(settings: Settings, ended: Recovered, destination: Destination) -> list[str]:
    """Refuse a cluster that has no database of the apps; return the apps without one.

    Raises:
        RefusedError: it is another server's.

    """
    wanted = {app.app: app.database for app in settings.apps if app.database is not None}
    missing = [app for app, name in wanted.items() if name not in ended.databases]
    if wanted and len(missing) == len(wanted):
        raise RefusedError(
            f"What lies at {destination.name} is another server's: its databases are"
            f" {', '.join(sorted(ended.databases))}, and those of this inventory"
            f" {', '.join(sorted(filter(None, wanted.values())))}. Nothing was touched.",
            hint="Check the `path` of the destination in the settings.",
        )
    return missing


def hole(found: Info, ended: Recovered) -> str | None:
    """Return a warning if the WAL could not be replayed to its last segment, or None.

    No more data can be restored, so it is no reason to stop; but it has to be reported.
    """
    high, _, low = ended.lsn.partition("/")
    # A position is that of the next byte: after a whole segment, it is the next one's first.
    last = max((int(high, 16) << 32) + int(low, 16) - 1, 0) // segments.SEGMENT_BYTES
    if found.newest_wal is None or last >= segments.number(found.newest_wal):
        return None
    return (
        f"The log at the destination has a hole or a damaged segment: it could be replayed to"
        f" {ended.lsn} only, although the segment {found.newest_wal} is there."
    )


def put_in_place(journal: Journal, systemd: Systemd | None = None) -> Journal:
    """Stop the empty cluster, put the recovered one in its place, start it, and wait for it.

    Raises:
        BedstoneError: it doesn't start.

    """
    systemd = systemd or Systemd(run)
    data = Path(journal.data)
    unit = _unit(data)
    journal = journal.at(rebuild_journal.SWAPPING)
    run(["systemctl", "stop", unit], timeout=_STOP_SECONDS)
    rename(journal)
    return journal.at(rebuild_journal.CLUSTER)


def rename(journal: Journal) -> None:
    """Finish the two renames."""
    data = Path(journal.data)
    if not journal.side.exists():
        return
    if data.exists():
        files.remove_tree(journal.before)
        data.rename(journal.before)
    journal.side.rename(data)
    files.sync_directory(data.parent)


def start(journal: Journal, server: Server) -> None:
    """Start the cluster that is in its place.

    Raises:
        BedstoneError: it doesn't answer.

    """
    unit = _unit(Path(journal.data))
    run(["systemctl", "start", unit], timeout=_START_SECONDS)
    server.execute("SELECT 1")


def remove_side(journal: Journal) -> None:
    """Remove the recovered cluster that will not be put in place."""
    files.remove_tree(journal.side)
    files.remove_tree(Path(f"{journal.side}.tablespaces"))


def remove_former(journal: Journal) -> None:
    """Remove the empty cluster that was there before."""
    files.remove_tree(journal.before)


def _unit(data: Path) -> str:
    # Debian: /var/lib/postgresql/17/main is the cluster 17-main.
    return f"postgresql@{data.parent.name}-{data.name}.service"


def _make_directory(side: Path) -> None:
    side.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(side, USER, USER)


@contextmanager
def _running(major: str, data: Path, port: int, command: str) -> Iterator[temporary.Running]:
    """Run the cluster in a directory on a private socket for a block."""
    socket = paths.host(_SOCKET)
    files.remove_tree(socket)
    socket.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        os.chown(socket, account.pw_uid, account.pw_gid)
    configuration = f"/etc/postgresql/{major}/{data.name.removesuffix(rebuild_journal.SIDE)}"
    options = {
        "config_file": f"{configuration}/postgresql.conf",
        "hba_file": f"{configuration}/pg_hba.conf",
        "ident_file": f"{configuration}/pg_ident.conf",
        "data_directory": str(data),
        "external_pid_file": "",
        "listen_addresses": "",
        "unix_socket_directories": str(socket),
        "unix_socket_permissions": "0700",
        "restore_command": command,
        # A smaller server than the one that is gone must not stop here to ask.
        "hot_standby": "off",
        # The new timeline is to be archived; from its own place, not from here.
        "archive_mode": "on",
        "archive_command": "",
        "logging_collector": "off",
        "autovacuum": "off",
        "cluster_name": "rebuild",
        "lc_messages": "C",
    }
    server, found = Server(str(socket), port), home_of(major)
    try:
        with temporary.launched(
            server, found, data, socket / "log", options, network=True
        ) as running:
            yield running
    finally:
        files.remove_tree(socket)


def _failure(said: str, destination: Destination) -> BedstoneError:
    """Return why PostgreSQL ended before the recovery did."""
    if (stopped := fetch.failure(said, destination.name)) is not None:
        return stopped
    if "recovery ended before configured recovery target was reached" in said:
        return BedstoneError(
            "The moment that was asked for is later than what was archived: nothing was touched.",
            hint="Leave --time away: then all that was archived comes back.",
            details=tail(said),
        )
    return BedstoneError("The cluster can't be recovered: nothing was touched.", details=tail(said))
