"""Manage Debian's clusters: one directory of settings and one of data for each major version."""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run, tail
from bedstone.postgres import queries
from bedstone.postgres.programs import home_of
from bedstone.postgres.server import OPTIONS, USER, PostgresError, Server
from bedstone.postgres.snapshot import MAP, READER

if TYPE_CHECKING:
    from pathlib import Path

NAME = "main"
AUTOMATIC, MANUAL = "auto", "manual"

_START_SECONDS = 300.0
_STOP_SECONDS = 600.0
_CHECK_SECONDS = 600.0
_UPGRADE_SECONDS = 12 * 3600.0
# PostgreSQL numbers users' objects from here on (FirstNormalObjectId).
_FIRST_OWN = 16384
_RELATION = re.compile(r"(\d+)(?:[._].*)?")
_STARTS = re.compile(r"^\s*(auto|manual|disabled)\b", re.MULTILINE)

# Only the superuser, over the socket, and the role that counts the rows for it: no client can write
# during that time.
_CLOSED = f"local all postgres peer\nlocal all {READER} peer map={MAP}\n"


@dataclass(frozen=True)
class Cluster:
    """The cluster `main` of a major version."""

    major: int

    @property
    def name(self) -> str:
        """Return the cluster's name in Debian's programs."""
        return f"{self.major}/{NAME}"

    @property
    def unit(self) -> str:
        """Its systemd unit."""
        return f"postgresql@{self.major}-{NAME}.service"

    @property
    def settings(self) -> Path:
        """Directory of postgresql.conf and pg_hba.conf."""
        return paths.host(f"/etc/postgresql/{self.major}/{NAME}")

    @property
    def data(self) -> Path:
        """Directory of its data."""
        return paths.host(f"/var/lib/postgresql/{self.major}/{NAME}")

    @property
    def programs(self) -> Path:
        """Directory of the version's programs."""
        return home_of(self.major)

    @property
    def installed(self) -> bool:
        """Return whether the version's server is on this host."""
        return (self.programs / "postgres").exists()

    @property
    def exists(self) -> bool:
        """Return whether such a cluster exists, complete or not."""
        return self.settings.exists() or self.data.exists()

    def starts(self) -> str | None:
        """Return when it starts: ``auto`` (at boot), ``manual`` or ``disabled``; None for never."""
        try:
            text = (self.settings / "start.conf").read_text(encoding="utf-8")
        except FileNotFoundError:
            return AUTOMATIC if self.settings.exists() else None
        found = _STARTS.search(text)
        return found.group(1) if found else AUTOMATIC

    def set_start(self, mode: str) -> None:
        """Decide whether it starts at boot."""
        path = self.settings / "start.conf"
        files.write(path, f"# Written by `bedstone upgrade postgresql`.\n{mode}\n")
        _as_postgres(path)
        run(["systemctl", "daemon-reload"])

    def is_empty(self) -> bool:
        """Return whether nothing was ever made in it: as a package's installation leaves one."""
        base = self.data / "base"
        if not base.is_dir():
            return not self.data.exists()
        for directory in base.iterdir():
            for path in (directory, *directory.iterdir()):
                found = _RELATION.fullmatch(path.name)
                if found and int(found.group(1)) >= _FIRST_OWN:
                    return False
        return True

    def start(self) -> None:
        """Start it with access for all clients.

        Raises:
            BedstoneError: it doesn't; the details say why.

        """
        with suppress(CommandError):
            run(["systemctl", "reset-failed", self.unit])
        try:
            run(["systemctl", "start", self.unit], timeout=_START_SECONDS)
        except CommandError as error:
            said = run(
                ["journalctl", "--no-pager", "--output", "cat", "--lines", "15", "-u", self.unit],
                check=False,
            ).stdout
            raise BedstoneError(
                f"PostgreSQL {self.major} doesn't start.",
                details=said or error.details,
                hint=f"More is in /var/log/postgresql/postgresql-{self.major}-{NAME}.log.",
            ) from error

    def stop(self) -> None:
        """Stop it cleanly, however it was started; connected clients don't delay the stop."""
        run(["systemctl", "stop", self.unit], timeout=_STOP_SECONDS, check=False)
        if not (self.data / "postmaster.pid").exists():
            return
        done = run(
            [
                *_as_user(), str(self.programs / "pg_ctl"), "stop", "--wait", "--mode=fast",
                f"--timeout={_STOP_SECONDS:.0f}", f"--pgdata={self.data}",
            ],
            timeout=_STOP_SECONDS + 30, check=False, cwd="/",
        )  # fmt: skip
        if done.returncode and self.running():
            raise BedstoneError(f"PostgreSQL {self.major} doesn't stop.", details=done.output)

    def running(self) -> bool:
        """Return whether its server runs."""
        if not (self.data / "PG_VERSION").exists():
            return False
        done = run(
            [*_as_user(), str(self.programs / "pg_ctl"), "status", f"--pgdata={self.data}"],
            check=False, cwd="/",
        )  # fmt: skip
        return done.returncode == 0

    def start_closed(self, server: Server, *, archive: bool) -> None:
        """Start it for the superuser alone: no network, and no other role over the socket.

        Args:
            server: where it answers, by its configuration.
            archive: whether its write-ahead log goes to the archive as ever.

        Raises:
            BedstoneError: it doesn't start.

        """
        rules = paths.host("/run/postgresql/bedstone-upgrade-hba.conf")
        rules.unlink(missing_ok=True)
        files.write(rules, _CLOSED, mode=0o400)
        _as_postgres(rules)
        # pg_ctlcluster waits at the configuration's port, so that can't be another one.
        options = [f"hba_file={rules}", "listen_addresses="]
        options += [] if archive else ["archive_mode=off"]
        try:
            run(
                [
                    "pg_ctlcluster", "--skip-systemctl-redirect", str(self.major), NAME, "start",
                    *(part for option in options for part in ("-o", f"-c {option}")),
                ],
                timeout=_START_SECONDS,
            )  # fmt: skip
        except CommandError as error:
            raise BedstoneError(
                f"PostgreSQL {self.major} doesn't start.", details=error.details
            ) from error
        if server.major() != self.major:
            raise PostgresError(f"Another PostgreSQL than {self.major} answers on {server.port}.")

    def rejects(self, other: Cluster) -> str | None:
        """Return why this version doesn't understand another's configuration, or None."""
        try:
            run(
                [*_as_user(), str(self.programs / "postgres"), "-C", "port",
                 "-D", str(other.settings)],
                cwd="/",
            )  # fmt: skip
        except CommandError as error:
            return next(iter(error.details.splitlines()), error.message)
        return None

    def program_version(self) -> str:
        """Return the installed minor version of its programs."""
        # It says: postgres (PostgreSQL) 17.6 (Debian 17.6-0+deb13u1).
        return run([str(self.programs / "postgres"), "--version"]).stdout.split()[2]

    def check_upgrade(self, source: Cluster, server: Server, place: Path) -> None:
        """Run this version's `pg_upgrade --check` on a running cluster; it changes nothing there.

        Args:
            source: the running cluster.
            server: where it answers.
            place: PostgreSQL's user's directory, which is removed afterwards.

        Raises:
            BedstoneError: pg_upgrade refuses the cluster; the details say why.

        """
        encoding, collate, kind = queries.template_locale(server)
        options: dict[str, Any] = {
            "cwd": str(place), "timeout": _CHECK_SECONDS,
            "env": {"PGDATA": "", "HOME": "/nonexistent", "PGOPTIONS": OPTIONS},
        }  # fmt: skip
        try:
            run(
                server.command(
                    str(self.programs / "initdb"), f"--pgdata={place / 'data'}",
                    f"--encoding={encoding}", f"--lc-collate={collate}", f"--lc-ctype={kind}",
                    "--data-checksums", "--no-sync", "--no-instructions", "--auth=peer",
                ), **options,
            )  # fmt: skip
            run(
                server.command(
                    str(self.programs / "pg_upgrade"), "--check",
                    f"--old-bindir={source.programs}", f"--new-bindir={self.programs}",
                    f"--old-datadir={source.settings}", f"--new-datadir={place / 'data'}",
                    f"--old-port={server.port}", f"--new-port={free_port(server.port)}",
                ), **options,
            )  # fmt: skip
        except CommandError as error:
            reports = sorted(place.glob("data/pg_upgrade_output.d/**/*.txt"))
            texts = [path.read_text(encoding="utf-8", errors="replace") for path in reports]
            raise BedstoneError(
                f"PostgreSQL {self.major} doesn't take the cluster as it is.",
                details=tail("\n".join([error.details, *texts])),
                hint="Nothing was touched. What pg_upgrade says has to be put right first.",
            ) from error

    def copy_from(self, source: Cluster, *, jobs: int) -> None:
        """Copy another version's stopped cluster by pg_upgrade; this one isn't started.

        Args:
            source: the cluster, which is only read.
            jobs: parallel processes.

        Raises:
            BedstoneError: pg_upgradecluster failed.

        """
        try:
            run(
                [
                    "pg_upgradecluster", "--method=upgrade", "--keep-port", "--no-start",
                    f"--jobs={jobs}", "-v", str(self.major), str(source.major), NAME,
                ],
                timeout=_UPGRADE_SECONDS,
                env={"LC_ALL": "C.UTF-8", "PGOPTIONS": OPTIONS},
                cwd="/",
            )  # fmt: skip
        except CommandError as error:
            raise BedstoneError(
                f"pg_upgradecluster failed; PostgreSQL {source.major} has not been changed.",
                details=tail(error.details),
            ) from error

    def analyze(self, server: Server, *, jobs: int) -> None:
        """Gather the statistics of all databases.

        Args:
            server: where it answers.
            jobs: parallel processes.

        """
        run(
            server.command(
                str(self.programs / "vacuumdb"), "--all", "--analyze-only", "--quiet",
                f"--jobs={jobs}", "--no-password",
            ),
            env=server.environment(), timeout=_UPGRADE_SECONDS, cwd="/",
        )  # fmt: skip

    def drop(self) -> None:
        """Remove it with its data, half-made ones too."""
        self.stop()
        run(["pg_dropcluster", "--stop", str(self.major), NAME], check=False, timeout=_STOP_SECONDS)
        # pg_dropcluster can't remove a half-made one.
        files.remove_tree(self.data)
        files.remove_tree(self.settings)
        run(["systemctl", "daemon-reload"])


def all_clusters() -> list[Cluster]:
    """Return the clusters of this server, the oldest version first."""
    found = paths.host("/etc/postgresql").glob(f"[0-9]*/{NAME}")
    return sorted((Cluster(int(path.parent.name)) for path in found), key=lambda each: each.major)


def free_port(taken: int) -> int:
    """Return the port for a cluster that is tested next to the serving one."""
    sockets = paths.host("/run/postgresql")
    port = taken + 1000
    while (sockets / f".s.PGSQL.{port}").exists():
        port += 1
    return port


def _as_user() -> list[str]:
    return ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--"]


def _as_postgres(path: Path) -> None:
    account = pwd.getpwnam(USER)
    os.chown(path, account.pw_uid, account.pw_gid)
