"""Run a temporary PostgreSQL cluster for a test of a dump: unreachable from outside, and removed.

It listens on a socket in a private directory and on no network, and is independent of the server's
own cluster: it even runs as another user. Functions in a dump run while it is restored, and as
`postgres` they could change production. It ends with the process that started it, however that
ends.

"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core import paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import end, run, tail
from bedstone.postgres import dump, queries, restore_role
from bedstone.postgres import properties as database_properties
from bedstone.postgres.programs import home_of, majors
from bedstone.postgres.server import USER, PostgresError, Server, identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bedstone.postgres.dump import Database

DATABASE = "verification"
ACCOUNT = "bedstone-verify"
# Of role backup.
ACCOUNTS_FILE = "/etc/sysusers.d/bedstone-verify.conf"
PORT = 5432

# What an empty cluster takes, with its write-ahead log at its largest.
EMPTY_BYTES = 400 * 1024 * 1024

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
# A checkpoint of all that a large cluster has in its memory.
_STOP_SECONDS = 600.0

# Nothing in it has to survive a power cut, and it shares the server with the apps.
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "max_connections": "20",
    "shared_buffers": "32MB",
    "maintenance_work_mem": "64MB",
    "huge_pages": "off",
    # In the cluster's own directory, so that a kill leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "restart_after_crash": "off",
    "jit": "off",
    # Personal data must not be in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class ThrowawayError(BedstoneError):
    """The cluster can't be had, which says nothing about any backup."""


def major_for(found: Database, name: str) -> int:
    """Return the major version that a dump is restored with: its own, else the next newer one.

    Args:
        found: the dump.
        name: the backup's name, for the message.

    Raises:
        BedstoneError: all that are installed here are older.

    """
    installed = majors("initdb")
    fit = [major for major in installed if major >= found.server_major]
    if not fit:
        here = ", ".join(map(str, installed)) or "none"
        raise BedstoneError(
            f"{name} comes from PostgreSQL {found.server_major}, which is too new for this server"
            f" (it has {here}): a dump goes to the same or a newer version only.",
            hint=f"Install postgresql-{found.server_major}, or verify it on a server that has it.",
        )
    return fit[0]


@dataclass(frozen=True)
class Running:
    """A temporary cluster that was started.

    Attributes:
        server: where it will answer.
        process: PostgreSQL.
        log: the file of its output.

    """

    server: Server
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """Return its output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, watch: Callable[[], None]) -> None:
        """Wait until it answers.

        Raises:
            ThrowawayError: it doesn't start; the details say why.

        """
        limit = time.monotonic() + _START_SECONDS
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                self.server.execute("SELECT 1", timeout=10)
            except PostgresError:
                self._pause(watch)
            else:
                return
        raise ThrowawayError("The throwaway cluster didn't start.", details=tail(self.said()))

    def is_promoted(self, watch: Callable[[], None]) -> bool:
        """Wait for the end of its recovery, and return whether it then took a session."""
        while self.process.poll() is None:
            try:
                return not queries.is_in_recovery(self.server)
            except PostgresError:
                self._pause(watch)
        return False

    def shut_down(self) -> None:
        """Stop it with a checkpoint: its files are a whole cluster afterwards.

        Raises:
            ThrowawayError: it doesn't.

        """
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS)
        if self.process.returncode != 0:
            raise ThrowawayError(
                "The recovered cluster doesn't shut down.", details=tail(self.said())
            )

    def _pause(self, watch: Callable[[], None]) -> None:
        # Ends at once when the server does.
        try:
            self.process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            watch()


@contextmanager
def cluster(place: Path, major: int, *, watch: Callable[[], None]) -> Iterator[Server]:
    """Make and start a cluster in a directory for a block.

    Args:
        place: a directory that is removed afterwards; gives the cluster its name.
        major: PostgreSQL's version.
        watch: called again and again while it is made; what it raises stops it.

    Raises:
        ThrowawayError: it can't be made, or doesn't start; the details say why.

    """
    programs = home_of(major)
    data, socket = place / "cluster", place / "socket"
    owner = account()
    for directory in (data, socket):
        directory.mkdir(mode=0o700)
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    server = Server(str(socket), PORT, owner.pw_name)
    try:
        run(
            server.command(
                str(programs / "initdb"), f"--pgdata={data}", f"--username={USER}",
                "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C.UTF-8",
                "--no-sync", "--no-instructions",
            ),
            env=_environment(server),
            cwd="/",
            timeout=None,
            watch=watch,
        )  # fmt: skip
    except CommandError as error:
        raise ThrowawayError(
            "No throwaway cluster could be made.", details=error.details
        ) from error
    with started(server, programs, data, place / "log", options(place, socket), watch=watch):
        yield server


def options(place: Path, socket: Path) -> dict[str, str]:
    """Return the settings of a cluster in a directory that is removed afterwards."""
    return {**_OPTIONS, "unix_socket_directories": str(socket), "cluster_name": place.name}


@contextmanager
def started(
    server: Server,
    programs: Path,
    data: Path,
    log: Path,
    options: Mapping[str, str],
    *,
    watch: Callable[[], None],
) -> Iterator[Running]:
    """Run a cluster for a block; it ends with it, and with this process.

    Args:
        server: where it will answer, and the system's user that it runs as.
        programs: PostgreSQL's.
        data: its directory.
        log: a file for what it says.
        options: its settings.
        watch: called again and again while it starts; what it raises stops it.

    Raises:
        ThrowawayError: it doesn't start; the details say why.

    """
    with launched(server, programs, data, log, options) as running:
        running.wait(watch)
        yield running


@contextmanager
def launched(
    server: Server,
    programs: Path,
    data: Path,
    log: Path,
    options: Mapping[str, str],
    *,
    network: bool = False,
) -> Iterator[Running]:
    """Start a cluster for a block without waiting until it answers; see :func:`started`.

    Args:
        server: see there.
        programs: see there.
        data: see there.
        log: see there.
        options: see there.
        network: let its processes reach the network, to fetch WAL. What an app's functions start
            must not.

    """
    with log.open("wb") as handle:
        process = subprocess.Popen(
            [
                *([] if network else _offline()),
                *_ending_with_us(server.account),
                str(programs / "postgres"),
                "-D",
                str(data),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_environment(server)},
            cwd="/",
            start_new_session=True,
        )
    try:
        yield Running(server, process, log)
    finally:
        # SIGQUIT is PostgreSQL's immediate shutdown.
        end(process, signal.SIGQUIT)


def restore(
    server: Server,
    found: Database,
    directory: Path,
    *,
    owner: str | None,
    jobs: int,
    watch: Callable[[], None],
) -> None:
    """Restore a dump into :data:`DATABASE`, with the roles and properties that it had.

    Args:
        server: the temporary cluster.
        found: the manifest's record of the dump.
        directory: the dump.
        owner: a role that is made in any case.
        jobs: parallel processes.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        BedstoneError: an object could not be restored.

    """
    properties = found.properties
    needed = {*found.roles, str(properties["owner"])} | ({owner} if owner else set())
    for entry in (*(properties.get("privileges") or ()), *(properties.get("settings") or ())):
        needed |= {entry["role"]} if entry["role"] is not None else set()
    # Without a password and without login: only the superuser can connect.
    roles = [f"CREATE ROLE {identifier(role)} NOLOGIN;" for role in sorted(needed - server.roles())]
    server.execute("\n".join(["SELECT 1;", *roles]))
    available = queries.available_extensions(server)
    if missing := sorted(set(found.extensions) - available):
        raise BedstoneError(
            f"The dump needs extensions that this server doesn't have: {', '.join(missing)}.",
            hint="Install their packages (postgresql-VERSION-NAME).",
        )
    possessor = str(properties["owner"])
    server.execute(
        database_properties.create_statement(DATABASE, possessor, properties), timeout=300
    )
    server.execute(database_properties.like(DATABASE, possessor, properties))
    extensions = properties.get("extension_owners")
    with restore_role.login(server, possessor, found.roles, extensions) as login:
        dump.load(server, directory, DATABASE, jobs=jobs, owner=None, watch=watch, login=login)
        restore_role.leave(server, DATABASE, possessor)


def account() -> pwd.struct_passwd:
    """Return the user that the cluster runs as, made if need be."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        with suppress(CommandError):
            run(["systemd-sysusers", str(paths.host(ACCOUNTS_FILE))])
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError as error:
        raise ThrowawayError(
            f"There is no user {ACCOUNT} on this server, as whom the throwaway cluster could run.",
            hint="Run the playbook `provision.yml`, whose role `backup` declares it.",
        ) from error


def _offline() -> list[str]:
    # A network of its own, with nothing in it. Only root can make one.
    return ["unshare", "--net", "--"] if os.geteuid() == 0 else []


def _ending_with_us(account: str) -> list[str]:
    # SIGQUIT is PostgreSQL's immediate shutdown: all of its processes end.
    if os.geteuid() != 0:
        return ["setpriv", "--pdeathsig", "QUIT", "--"]
    return [
        "setpriv", "--reuid", account, "--regid", account, "--init-groups",
        "--pdeathsig", "QUIT", "--",
    ]  # fmt: skip


def _environment(server: Server) -> dict[str, str]:
    # PGDATA and the like of a caller's shell name the server's own cluster.
    return {**server.environment(), "PGDATA": "", "PGSERVICE": "", "PGDATABASE": ""}
