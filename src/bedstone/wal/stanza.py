"""Call pgBackRest, the engine of the WAL archive; no other module does.

It runs as PostgreSQL's user with /etc/pgbackrest/pgbackrest.conf, which role `pgbackrest` writes. A
destination is a repository there, named by its number. `pgbackrest_errors` translates its messages.
"""

from __future__ import annotations

import json
import re
import socket
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bedstone.backup import settings as backup_settings
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, CommandError, RefusedError
from bedstone.core.lock import LockedError
from bedstone.core.process import run, watched
from bedstone.postgres import queries
from bedstone.postgres.server import OPTIONS, Server
from bedstone.storage.destinations import SFTP
from bedstone.wal import archiver
from bedstone.wal import info as pgbackrest_info
from bedstone.wal.errors import (
    FOREIGN_HINT,
    GONE_HINT,
    UNREACHABLE_HINT,
    ForeignError,
    GoneError,
    UnreachableError,
    explained,
)
from bedstone.wal.segments import Segment, segment_of
from bedstone.wal.segments import number as number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bedstone.core.process import Runner
    from bedstone.storage.destinations import Destination, Destinations, PointInTime
    from bedstone.wal.info import Info

Kind = Literal["full", "incr"]

_QUICK_SECONDS = 180
# A piece of WAL that can't be sent anywhere is given up within it.
_LOCK_SECONDS = 180
_PAUSE_SECONDS = 0.3
_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 10
# An ssh server soon refuses a client that connects repeatedly and leaves, and with it all that
# comes from the same address: the WAL, too (PerSourcePenalties).
_REACHED_SECONDS = 60
_HTTPS = 443
_VERSION = re.compile(r"pgBackRest (\d+)\.(\d+)")
_WORDS = {"full": "The full backup", "incr": "The incremental backup"}


class Stanza:
    """The cluster of this host with all its repositories in pgBackRest."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        server: Server | None = None,
        runner: Runner = run,
        connect: Callable[[tuple[str, int]], None] | None = None,
    ) -> None:
        """Take where WAL goes.

        Args:
            destinations: those of this server.
            server: its PostgreSQL; by default the one that backups are made of.
            runner: runs programs; tests put a fake in its place.
            connect: tries an address, and raises OSError when nothing answers; likewise.

        Raises:
            RefusedError: no WAL is kept on this server.

        """
        if destinations.point_in_time is None:
            raise RefusedError(
                "No WAL is archived on this server, so there is no point in time to go back to.",
                hint="Set `bedstone_backup.point_in_time: true` in the settings and run"
                " `provision.yml`.",
            )
        self.destinations = destinations
        self.settings: PointInTime = destinations.point_in_time
        self.server = server or _server()
        self._run = runner
        self._connect = connect or _connect
        # When a destination was last seen to answer.
        self._reached: dict[str, float] = {}

    @property
    def name(self) -> str:
        """PgBackRest's name of the cluster."""
        return self.settings.stanza

    @property
    def repositories(self) -> tuple[Destination, ...]:
        """The destinations that get WAL, local first."""
        return tuple(found for found in self.destinations.all if found.pgbackrest is not None)

    def create(self) -> tuple[str, ...]:
        """Make the stanza in each repository that has none; return the names of those.

        Raises:
            BedstoneError: a repository can't be reached, belongs to another cluster, or was
                encrypted with another key.

        """
        made = tuple(found.name for found in self.repositories if not self.is_ours(found))
        if made:
            # It takes all repositories at once and leaves those alone that have a stanza.
            self._alone("stanza-create", what="Preparing the repositories")
        return made

    def upgrade(self) -> None:
        """Begin a new archive for this cluster next to the one of the cluster that it replaced.

        The former backups stay, and are removed as retention goes.
        """
        self._alone("stanza-upgrade", what="Beginning a new archive")

    def _alone(self, command: str, *, what: str) -> None:
        """Run a command that pgBackRest refuses while WAL is being archived: between two pieces.

        Without a repository, a piece fails soon, and PostgreSQL pauses before the next.
        """
        limit = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._call(command, what=what)
            except LockedError:
                if time.monotonic() > limit:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def is_ours(self, destination: Destination) -> bool:
        """Return whether a repository holds a stanza of this cluster; False when it has none.

        Raises:
            ForeignError: it is that of another cluster.
            BedstoneError: it can't be read.

        """
        return self._is_ours(self.info(destination), destination)

    def _is_ours(self, found: Info, destination: Destination) -> bool:
        if not found.exists:
            return False
        own = queries.system_identifier(self.server)
        major = str(self.server.major())
        if (found.system, found.version) == (own, major):
            return True
        which = (
            f"PostgreSQL {found.version}, and this server runs {major}"
            if found.version != major
            else f"cluster {found.system}, and this is cluster {own}"
        )
        raise ForeignError(
            f"What lies at {destination.name} ({destination.words()}) is the WAL of {which}.",
            hint=FOREIGN_HINT,
        )

    def ready(self, destination: Destination) -> Info:
        """Return what is in a repository, once it is certain that it is this cluster's.

        Raises:
            BedstoneError: there is none, or it is another's.

        """
        found = self.info(destination)
        if not self._is_ours(found, destination):
            raise GoneError(
                f"There is no repository at {destination.name} ({destination.words()}).",
                hint=GONE_HINT,
            )
        return found

    def backup(
        self, kind: Kind, destination: Destination, *, watch: Callable[[], None] | None = None
    ) -> Info:
        """Back the cluster up to one destination, and return what is there afterwards.

        Args:
            kind: ``full``, or ``incr`` for what changed since the last one (full if there is none).
            destination: where to.
            watch: called repeatedly while it runs; its exception stops it.

        Raises:
            BedstoneError: says what failed; a half-made backup is none, and the next resumes it.

        """
        self._call(
            "backup",
            f"--type={kind}",
            destination=destination,
            what=_WORDS[kind],
            seconds=None,
            runner=watched(watch) if watch is not None else None,
        )
        return self.info(destination)

    def info(self, destination: Destination) -> Info:
        """Return what is in a repository, asked there.

        Raises:
            BedstoneError: it can't be read.

        """
        what = "Looking into the repository"
        said = self._call("info", "--output=json", destination=destination, what=what)
        found = pgbackrest_info.parse(said, number(destination))
        if found.problem:
            # An unreachable repository is no error to `info`, which only mentions it.
            raise explained(found.problem, destination, what)
        return found

    def expire(self, destination: Destination, keep_full: int) -> None:
        """Remove all chains but the newest, with the WAL before them.

        Args:
            destination: where.
            keep_full: how many stay (`wal_retention.full_backups_to_keep`).

        """
        prefix = f"--repo{number(destination)}-retention-full"
        self._call(
            "expire",
            f"{prefix}-type=count",
            f"{prefix}={keep_full}",
            destination=destination,
            what="Removing old backups",
            seconds=3600,
        )

    def check(self, destination: Destination) -> str:
        """Make PostgreSQL archive its WAL; return the segment, once it is at a destination.

        Raises:
            BedstoneError: it didn't arrive within a minute or two.

        """
        segment = self.switch()
        self.arrived(destination, segment)
        return segment

    def switch(self) -> str:
        """End the present WAL segment and return its name: it is archived next."""
        return queries.switch_wal(self.server)

    def arrived(self, destination: Destination, segment: str, *, seconds: int = 120) -> None:
        """Wait until a segment is at a destination.

        Raises:
            BedstoneError: it wasn't within the time; says what holds it up, if that is known.

        """
        limit = time.monotonic() + seconds
        while True:
            newest = self.info(destination).newest_wal
            if newest is not None and number_of(newest) >= number_of(segment):
                return
            if time.monotonic() > limit:
                break
            time.sleep(_POLL_SECONDS)
        health = archiver.health(self.server, self.settings.archive_timeout_seconds)
        raise BedstoneError(
            f"The WAL segment {segment} didn't arrive at {destination.name}"
            f" ({destination.words()}) within {seconds:.0f} seconds; the last one there is"
            f" {newest or 'none'}.",
            hint=health.problem
            or "pgBackRest's own words are in /var/log/pgbackrest and /var/log/postgresql.",
        )

    def segments(self, destination: Destination, archive: str) -> tuple[Segment, ...]:
        """Return the archived segments at a destination, with when they arrived there.

        Args:
            destination: where.
            archive: `Info.archive`.

        """
        listed = self._output(
            "repo-ls",
            "--recurse",
            "--output=json",
            f"archive/{self.name}/{archive}",
            destination=destination,
            what="Listing the archived WAL",
        )
        entries: dict[str, dict[str, Any]] = json.loads(listed or "{}")
        return tuple(
            Segment(name, datetime.fromtimestamp(entry.get("time", 0), UTC))
            for path, entry in sorted(entries.items())
            if entry.get("type") == "file" and (name := segment_of(path)) is not None
        )

    def restore(
        self,
        destination: Destination,
        into: Path,
        *,
        target: datetime | None = None,
        label: str | None = None,
        databases: Sequence[str] | None = None,
        aside: Path | None = None,
        watch: Callable[[], None] | None = None,
    ) -> str:
        """Put the files of a cluster into an empty directory, ready to recover; return the label.

        The directory is PostgreSQL's user's afterwards, with a ``recovery.signal``: a start
        recovers it from the same destination, to ``target`` or to the last WAL there, and it is
        promoted. It archives nothing.

        Args:
            destination: where from.
            into: an existing, empty directory that belongs to PostgreSQL's user.
            target: the moment to recover to; None for all the WAL there is.
            label: the backup to begin from; by default the newest one that leads to the target.
            databases: only these (others become empty files); None for all.
            aside: a directory for pgBackRest's own files, next to production's: others may restore,
                too, the log is for what happens to production, and a restore empties the queue of
                the WAL that goes out.
            watch: called repeatedly while it runs; its exception stops it.

        Raises:
            RefusedError: before anything was written: there is no such backup, no backup that
                leads to the target, another cluster's repository, a wrong key.
            BedstoneError: it failed; what was restored is in ``into`` and no cluster.

        """
        found = self.info(destination)
        if not found.exists or not found.backups:
            raise RefusedError(
                f"There is no backup of the cluster at {destination.name} ({destination.words()}).",
                hint="`bedstone wal list` shows what there is.",
            )
        begin = self._begin(found, destination, target, label)
        arguments = [
            f"--pg1-path={into}",
            f"--set={begin}",
            "--archive-mode=off",
            f"--tablespace-map-all={into}.tablespaces",
            "--target-action=promote",
            *(f"--db-include={name}" for name in databases or ()),
        ]
        if target is None:
            # Without a target PostgreSQL promotes at the end of the WAL by itself.
            arguments.remove("--target-action=promote")
        else:
            moment = target.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
            arguments += ["--type=time", f"--target={moment}"]
        if aside is not None:
            arguments += [f"--{name}-path={aside}" for name in ("lock", "spool")]
            arguments.append("--log-level-file=off")
        self._call(
            "restore",
            *arguments,
            destination=destination,
            what="The restore of the cluster",
            seconds=None,
            runner=watched(watch) if watch is not None else None,
        )
        return begin

    def _begin(
        self, found: Info, destination: Destination, target: datetime | None, label: str | None
    ) -> str:
        """Return the backup that a restore begins from.

        pgBackRest would take the newest one when none leads to the target, and end somewhere else.
        """
        if label is not None:
            chosen = found.backup(label)
            if chosen is None:
                labels = ", ".join(backup.label for backup in found.backups)
                raise RefusedError(
                    f"There is no backup {label} at {destination.name}.",
                    hint=f"There are: {labels}.",
                )
        else:
            chosen = found.newest if target is None else found.for_moment(target)
        if chosen is None or (target is not None and chosen.finished_at > target):
            first = chosen or found.backups[0]
            raise RefusedError(
                f"{destination.name} can't bring the cluster to {_shown(target)}: the"
                f" {'backup ' + first.label if chosen else 'oldest backup there'} ended at"
                f" {_shown(first.finished_at)}.",
                hint="Take a later moment, or another destination: `bedstone wal list`.",
            )
        return chosen.label

    def _call(
        self,
        command: str,
        *arguments: str,
        destination: Destination | None = None,
        what: str,
        seconds: float | None = _QUICK_SECONDS,
        runner: Runner | None = None,
    ) -> str:
        """Run a command of pgBackRest and return its standard output."""
        self._reach(destination, what)
        argv = self._argv(command, *arguments, destination=destination)
        call = runner or self._run
        try:
            return call(argv, env=_environment(), cwd="/", timeout=seconds).stdout
        except CommandError as error:
            raise self._explained(error, destination, what) from error

    def _output(self, command: str, *arguments: str, destination: Destination, what: str) -> str:
        """Run a command whose output may be long, and return all of it."""
        self._reach(destination, what)
        argv = self._argv(command, *arguments, destination=destination)
        with tempfile.TemporaryFile() as output:
            try:
                self._run(argv, env=_environment(), cwd="/", timeout=_QUICK_SECONDS, stdout=output)
            except CommandError as error:
                raise self._explained(error, destination, what) from error
            output.seek(0)
            return output.read().decode("utf-8", "replace")

    def _reach(self, destination: Destination | None, what: str) -> None:
        """Raise at once when a destination is away: pgBackRest would try for minutes."""
        if destination is None or destination.is_local:
            return
        last = self._reached.get(destination.name)
        if last is not None and time.monotonic() - last < _REACHED_SECONDS:
            return
        try:
            self._connect(address(destination))
            self._reached[destination.name] = time.monotonic()
        except OSError as error:
            raise UnreachableError(
                f"{what} failed: {destination.name} ({destination.words()}) can't be reached:"
                f" {error.strerror or error}.",
                hint=UNREACHABLE_HINT,
            ) from error

    def _argv(self, command: str, *arguments: str, destination: Destination | None) -> list[str]:
        # `repo-ls` and `repo-get` take a path as their last argument.
        options = [f"--stanza={self.name}"] if not command.startswith("repo-") else []
        if paths.origin() is not None:
            # It is written into the command that fetches WAL, too.
            options.append(f"--config={paths.pgbackrest() / 'pgbackrest.conf'}")
        if destination is not None:
            options.append(f"--repo={number(destination)}")
            if destination.as_of is not None:
                moment = destination.as_of.astimezone(UTC)
                # It is written into the command that fetches WAL, too.
                options.append(f"--repo-target-time={moment:%Y-%m-%d %H:%M:%S}+00")
        return self.server.command("pgbackrest", *options, command, *arguments)

    def _explained(
        self, error: CommandError, destination: Destination | None, what: str
    ) -> BedstoneError:
        self._reached.clear()
        if error.returncode is None:
            kind = (
                BedstoneError if destination is None or destination.is_local else UnreachableError
            )
            return kind(f"{what} failed: {error.message}", details=error.details)
        return explained(error.details or error.message, destination, what)


def program_version() -> tuple[int, int] | None:
    """Return the version of the installed pgBackRest, or None when it isn't understood."""
    found = _VERSION.search(run(["pgbackrest", "version"], check=False).stdout)
    return (int(found[1]), int(found[2])) if found else None


def number(destination: Destination) -> int:
    """Return the number of a destination's repository.

    Raises:
        RefusedError: no WAL goes there.

    """
    if destination.pgbackrest is None:
        raise RefusedError(
            f"No WAL goes to {destination.name}.",
            hint="Set `wal: true` for it in the settings, or take another: `bedstone wal list`.",
        )
    return destination.pgbackrest


def address(destination: Destination) -> tuple[str, int]:
    """Return host and port of a destination that isn't this server."""
    if destination.type == SFTP:
        return destination.host, destination.port
    host, _, port = destination.endpoint.rpartition("://")[2].partition(":")
    return host, int(port or _HTTPS)


def _connect(where: tuple[str, int]) -> None:
    with socket.create_connection(where, timeout=_CONNECT_SECONDS):
        pass


def _server() -> Server:
    if not backup_settings.path().exists():
        return Server("/var/run/postgresql", 5432)
    settings = backup_settings.load()
    return Server(settings.socket, settings.port)


def _environment() -> dict[str, str]:
    # Whatever the caller's shell has set must not reach it; libpq's variables would, too.
    return {"LC_ALL": "C.UTF-8", "PGOPTIONS": OPTIONS, "HOME": "/nonexistent"}


def _shown(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else "the present"
