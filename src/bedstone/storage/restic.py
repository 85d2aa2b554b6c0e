"""Call restic, which keeps encrypted, deduplicated snapshots; no other module does.

Written for restic 0.18 (Debian 13): an error is known by its exit code where there is one, else
by its words. The key goes by a file, access keys by the environment.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.core import paths, process
from bedstone.core.errors import CommandError
from bedstone.storage import as_of, destinations, reachability, restic_errors, s3
from bedstone.storage.restic_errors import LOCKED, MISSING, OTHER, UNREACHABLE, ResticError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bedstone.core.process import Completed
    from bedstone.storage.destinations import Destination

logger = logging.getLogger(__name__)

# What asks and answers a few bytes.
_SHORT_SECONDS = 300.0
# What moves data may take hours, but not stand still.
STILL_SECONDS = 1200.0
_PARTLY = 3
# Other processes come before a long run.
_LOW = ("nice", "-n", "5", "ionice", "-t", "-c", "3")
_LONG = {"backup", "copy", "prune", "check"}
_WAITS = {"backup", "copy"}
WAIT_SECONDS = 1800.0
_WAIT_STEP_SECONDS = 5.0
# What looks only, for a moment.
_READS = {"cat", "snapshots", "ls", "stats", "dump"}
_TIME = re.compile(r"\[[\d:]+\]")
_STATUS_EVERY = "0.2"
# A list of all snapshots is one text.
_KEPT_CHARACTERS = 64 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a repository.

    Attributes:
        id: whole, not shortened.
        time: when it was made, in UTC.
        tags: ``key=value`` tags as a dictionary.
        paths: what it holds, as it was called where it was made.
        original: id of the snapshot of which it is a copy, or None.

    """

    id: str
    time: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    original: str | None = None


@dataclass(frozen=True)
class Contents:
    """The contents of a snapshot.

    Attributes:
        id: the snapshot's whole id.
        files: how many, links too.
        bytes: of the regular ones, each once whatever its names.

    """

    id: str
    files: int
    bytes: int


class Repository:
    """restic's repository at a destination."""

    def __init__(self, destination: Destination, *, short_seconds: float = _SHORT_SECONDS) -> None:
        self.destination = destination
        self._short_seconds = short_seconds

    @property
    def location(self) -> str:
        """Return where it is, as restic calls it."""
        place = self.destination
        if place.is_local:
            return str(place.restic)
        path = place.path.rstrip("/")
        if place.type == destinations.S3:
            return f"s3:https://{place.endpoint}/{place.bucket}{path}/restic"
        if place.immutable:
            # The account's forced command knows the directory, and heeds no name.
            return f"rclone:{place.name}:{path}/restic"
        # The name is only shown: ssh's own command line has the real one.
        host = place.name if ":" in place.host else place.host
        return f"sftp:{place.user}@{host}:{path}/restic"

    def exists(self) -> bool:
        """Return whether there is a repository, opened by the key.

        Raises:
            ResticError: the repository can't be read: unreachable, another key, damaged.

        """
        try:
            self._call("cat", "config")
        except ResticError as error:
            if error.reason == MISSING:
                return False
            raise
        return True

    def ready(self, like: Repository | None = None) -> None:
        """Make the repository if there is none.

        Args:
            like: a repository from which snapshots will be copied: both then cut files alike.

        Raises:
            ResticError: unreachable, another key, not to be written to.

        """
        if self.exists():
            return
        arguments = ["init"]
        if like is not None:
            arguments += [*like.as_source(), "--copy-chunker-params"]
        if self.destination.restic is not None:
            paths.ensure_private(self.destination.restic.parent)
        self._call(*arguments)

    def backup(
        self,
        directory: Path,
        names: Sequence[str],
        tags: Mapping[str, str],
        *,
        skip_unchanged: bool = False,
        watch: Callable[[], None] | None = None,
    ) -> tuple[str, list[str]]:
        """Make a snapshot of entries of a directory; it holds them by their names.

        Args:
            directory: what the names are relative to.
            names: files and directories.
            tags: kept with it, to find it by.
            skip_unchanged: make none when the last one of the same entries, whatever its tags,
                holds the same.
            watch: called repeatedly while it runs; its exception stops it.

        Returns:
            The snapshot's id, maybe its beginning alone, or "" when it was skipped; and a sentence
            for each file that was removed while it was read. :meth:`snapshots` shows whether it
            has arrived.

        Raises:
            ResticError: there is no snapshot.

        """
        ended = self._run(
            [
                "backup", "--json", "--one-file-system", f"--host={socket.gethostname()}",
                *(f"--tag={key}={value}" for key, value in tags.items()),
                *(["--skip-if-unchanged"] if skip_unchanged else []),
                *names,
            ],
            cwd=str(directory),
            still_seconds=STILL_SECONDS,
            watch=watch,
        )  # fmt: skip
        if ended.returncode not in {0, _PARTLY}:
            raise self._error(ended)
        messages = _messages(ended)
        summary = next((m for m in messages if m.get("message_type") == "summary"), {})
        snapshot = str(summary.get("snapshot_id") or "")
        skipped = skip_unchanged and bool(summary) and not snapshot
        if not snapshot and not skipped:
            raise ResticError(
                f"restic made no snapshot at {self.destination.name}.",
                OTHER,
                details=f"{ended.stdout}\n{ended.stderr}",
            )
        vanished, unread = _troubles(messages, directory)
        if unread or (ended.returncode == _PARTLY and not vanished):
            if snapshot:
                self.drop(snapshot)
            raise ResticError(
                f"Not all of {directory} could be read.", OTHER, details="\n".join(unread[:20])
            )
        return snapshot, vanished

    def copy(self, source: Repository, snapshot: str) -> None:
        """Copy a snapshot from another repository; :meth:`snapshots` shows whether it has arrived.

        The copy has an id of its own, and records that of the snapshot as its original.

        Args:
            source: where it is.
            snapshot: its id there.

        Raises:
            ResticError: it failed.

        """
        ended = self._run(
            ["copy", *source.as_source(), snapshot], still_seconds=STILL_SECONDS, progress=_undated
        )
        if ended.returncode != 0:
            raise self._error(ended)

    def snapshots(self, tags: Mapping[str, str] | None = None) -> list[Snapshot]:
        """Return the snapshots that have all of some tags, the oldest first.

        Raises:
            ResticError: the repository can't be read.

        """
        arguments = ["snapshots", "--json"]
        if tags:
            arguments.append("--tag=" + ",".join(f"{key}={value}" for key, value in tags.items()))
        try:
            listed = json.loads(self._call(*arguments).stdout or "[]") or []
            found = [_snapshot(entry) for entry in listed]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResticError(
                f"restic's list of {self.destination.name} isn't understood: {error}.", OTHER
            ) from error
        return sorted(found, key=lambda snapshot: snapshot.time)

    def count(self, snapshot: str) -> Contents:
        """Read a snapshot back, and return what is in it.

        Args:
            snapshot: its id, or the beginning of that.

        Raises:
            ResticError: it isn't there, or can't be read.

        """
        files, identity = 0, snapshot

        def line(text: str) -> None:
            nonlocal files, identity
            entry = json.loads(text)
            if entry.get("struct_type") == "snapshot":
                identity = str(entry["id"])
            else:
                files += entry.get("type") != "dir"

        ended = self._run(
            ["ls", "--json", snapshot], on_stdout=line, still_seconds=STILL_SECONDS, lock=False
        )
        if ended.returncode != 0:
            raise self._error(ended)
        stats = self._call("stats", "--json", "--mode=restore-size", snapshot).stdout
        # Of all that restic counts, this counts a file once that has several names.
        return Contents(identity, files, int(json.loads(stats)["total_size"]))

    def read(self, snapshot: str, path: str) -> str:
        """Return the text of a file in a snapshot.

        Args:
            snapshot: its id.
            path: the file, absolute in the snapshot.

        Raises:
            ResticError: it isn't there, or can't be read.

        """
        lines: list[str] = []
        ended = self._run(
            ["dump", snapshot, path],
            on_stdout=lines.append,
            still_seconds=STILL_SECONDS,
            lock=False,
        )
        if ended.returncode != 0:
            raise self._error(ended)
        return "".join(lines)

    def size(self) -> int:
        """Return the bytes that all snapshots together take."""
        return int(
            json.loads(self._call("stats", "--json", "--mode=raw-data").stdout)["total_size"]
        )

    def restore(
        self, snapshot: str, target: Path, *, watch: Callable[[], None] | None = None
    ) -> None:
        """Restore a snapshot into a directory, which is made.

        Args:
            snapshot: its id.
            target: a directory.
            watch: called repeatedly while it runs; its exception stops it.

        Raises:
            ResticError: not all of it could be restored.

        """
        ended = self._run(["restore", snapshot, f"--target={target}"], watch=watch, lock=False)
        if ended.returncode != 0:
            raise self._error(ended)

    def forget(self, snapshots: Collection[str]) -> None:
        """Remove snapshots; :meth:`prune` frees what they took.

        Raises:
            ResticError: they are still there.

        """
        if snapshots:
            self._call("forget", *snapshots)

    def drop(self, snapshot: str) -> None:
        """Remove a snapshot that isn't whole; at an append-only account it stays, and is told."""
        try:
            self.forget([snapshot])
        except ResticError as error:
            logger.warning("%s isn't whole, and stays: %s", snapshot, error.message)

    def prune(self) -> None:
        """Free what no snapshot needs.

        Raises:
            ResticError: it failed; nothing that is needed is gone.

        """
        ended = self._run(["prune"], still_seconds=6 * STILL_SECONDS, progress=_undated)
        if ended.returncode != 0:
            raise self._error(ended)

    def check(self, *, read: str | None = None) -> None:
        """Check that the repository is whole.

        Args:
            read: how much of its data is read, too: "1/8", "5%", "500M".

        Raises:
            ResticError: it isn't.

        """
        arguments = ["check"] + ([f"--read-data-subset={read}"] if read else [])
        ended = self._run(arguments, still_seconds=6 * STILL_SECONDS, progress=_undated)
        if ended.returncode != 0:
            raise self._error(ended)

    def unlock(self) -> None:
        """Remove the locks of runs that are dead; those of live ones stay."""
        self._run(["unlock"], timeout=self._short_seconds, lock=False)

    def as_source(self) -> list[str]:
        """Return the arguments that name it as the repository to copy from.

        It has to be this server's own: those of another need secrets in the environment.
        """
        return [f"--from-repo={self.location}", f"--from-password-file={destinations.key_path()}"]

    def _call(self, *arguments: str) -> Completed:
        ended = self._run(list(arguments), timeout=self._short_seconds)
        if ended.returncode != 0:
            raise self._error(ended)
        return ended

    def _run(self, arguments: list[str], *, lock: bool = True, **options: Any) -> Completed:
        ended = self._once(arguments, **options)
        if lock and ended.returncode != 0 and restic_errors.reason(ended) == LOCKED:
            # Of a run that was killed? restic detects that, and removes no lock of a live one.
            self._once(["unlock"], timeout=self._short_seconds)
            ended = self._once(arguments, **options)
        # A backup waits while old data is being freed.
        deadline = time.monotonic() + (WAIT_SECONDS if arguments[0] in _WAITS else 0)
        while (
            lock
            and ended.returncode != 0
            and restic_errors.reason(ended) == LOCKED
            and time.monotonic() < deadline
        ):
            time.sleep(_WAIT_STEP_SECONDS)
            ended = self._once(arguments, **options)
        return ended

    def _once(
        self,
        arguments: list[str],
        *,
        cwd: str = "/",
        timeout: float | None = None,
        progress: Callable[[str], Hashable] | None = None,
        **options: Any,
    ) -> Completed:
        if not destinations.has_key():
            raise ResticError(
                f"There is no backup key ({destinations.key_path()}), without which nothing can be"
                " encrypted.",
                OTHER,
                hint="Declare it (docs/settings.md, `bedstone_secrets.backup.key`) and run"
                " `provision.yml`.",
            )
        if self.destination.type == destinations.S3:
            # ssh finds it out itself, and says so. An ssh server soon refuses a client that
            # connects and leaves (PerSourcePenalties).
            reachability.require(self.destination)
        try:
            with self._opened() as location:
                command = [
                    *(_LOW if arguments[0] in _LONG else ()),
                    "restic", f"--repo={location}", f"--password-file={destinations.key_path()}",
                    *self._cache(), *self._options(), *self._unlocked(arguments[0]), *arguments,
                ]  # fmt: skip
                return process.run(
                    command,
                    check=False,
                    cwd=cwd,
                    timeout=timeout,
                    env={"RESTIC_PROGRESS_FPS": _STATUS_EVERY, **self._secrets()},
                    progress=progress or _progress,
                    kept_characters=_KEPT_CHARACTERS,
                    **options,
                )
        except process.TooLongError as error:
            raise ResticError(
                f"restic came to no end at {self.destination.name}:"
                f" {error.message.partition('` ')[2]}",
                UNREACHABLE,
                hint="The server doesn't answer in time: look at it, and at the network.",
                details=error.details,
            ) from error
        except CommandError as error:
            raise ResticError(error.message, OTHER, hint="Run `provision.yml`.") from error

    def _unlocked(self, command: str) -> list[str]:
        """Return what lets a command do without a lock, which a reader may not be able to write."""
        place = self.destination
        reads = command in _READS or (command == "restore" and place.is_local)
        return ["--no-lock"] if reads or place.as_of is not None else []

    def _opened(self) -> AbstractContextManager[str]:
        """Return what leads to the repository while restic runs, as restic calls it."""
        if self.destination.as_of is not None:
            return as_of.served(self.destination)
        return nullcontext(self.location)

    def _cache(self) -> list[str]:
        if self.destination.is_local or self.destination.as_of is not None:
            return ["--no-cache"]
        return [f"--cache-dir={paths.host('/var/cache/bedstone-restic')}"]

    def _options(self) -> list[str]:
        place = self.destination
        if place.type == destinations.SFTP and place.immutable:
            return ["-o", f"rclone.program={' '.join(reachability.ssh_login(place))}"]
        if place.type == destinations.SFTP:
            return ["-o", f"sftp.command={' '.join(reachability.ssh(place))}"]
        if place.type == destinations.S3 and place.as_of is None:
            lookup = "path" if place.path_style else "dns"
            return ["-o", f"s3.bucket-lookup={lookup}", "-o", f"s3.region={place.region}"]
        return []

    def _secrets(self) -> dict[str, str]:
        if self.destination.type != destinations.S3 or self.destination.as_of is not None:
            return {}
        keys = s3.read_keys(self.destination.secrets / s3.FILE)
        return {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}

    def _error(self, ended: Completed) -> ResticError:
        return restic_errors.explain(ended, self.destination, self.location)


def _messages(ended: Completed) -> list[dict[str, Any]]:
    found = []
    for line in (*ended.stdout.splitlines(), *ended.stderr.splitlines()):
        with suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                found.append(message)
    return found


def _troubles(
    messages: Sequence[Mapping[str, Any]], directory: Path
) -> tuple[list[str], list[str]]:
    """Return the files that were gone when they were to be read, and those that can't be."""
    vanished, unread = [], []
    for message in messages:
        if message.get("message_type") != "error":
            continue
        item = str(message.get("item") or "")
        # Its words differ between versions; what is gone is gone.
        if item and not os.path.lexists(directory / item):
            vanished.append(f"{item}: removed before it was read")
        else:
            unread.append(f"{item}: {json.dumps(message.get('error'))}")
    return vanished, unread


def _progress(line: str) -> Hashable:
    """Return the part of a line that changes with restic's progress."""
    if line.startswith("{"):
        with suppress(ValueError):
            message = json.loads(line)
            if message.get("message_type") == "status":
                return message.get("bytes_done"), message.get("files_done")
    return line


def _undated(line: str) -> Hashable:
    return _TIME.sub("", line)


def _snapshot(entry: Mapping[str, Any]) -> Snapshot:
    # Nanoseconds are more than Python reads.
    moment = re.sub(r"(\.\d{6})\d+", r"\1", str(entry["time"]))
    tags = [str(tag).partition("=") for tag in entry.get("tags") or []]
    return Snapshot(
        id=str(entry["id"]),
        time=datetime.fromisoformat(moment).astimezone(UTC),
        tags={key: value for key, _, value in tags},
        paths=tuple(entry.get("paths") or ()),
        original=entry.get("original"),
    )
