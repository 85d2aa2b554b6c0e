"""Run an operation in a separate unit: it outlives the terminal, the connection and its caller.

The caller writes the request into a file and starts the unit ``bedstone-operation@APP``. The unit's
process reads the request, runs it and writes every line into a log that any caller can follow. When
the caller ends, the operation goes on.

"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

from bedstone.core import files, lock, names, paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.05
_STATE_EVERY_SECONDS = 0.5
# While a unit whose work is done tidies up, which takes a second.
_ENDING_EVERY_SECONDS = 0.2
# While the lock shows that an operation runs: each question starts systemctl and wakes systemd.
_STATE_OF_RUNNING_EVERY_SECONDS = 10.0
_BEGIN_SECONDS = 30.0
# What a unit that has done its work may take to be gone.
_END_SECONDS = 200.0
_GONE = {"inactive", "failed"}


@dataclass(frozen=True)
class Request:
    """The order of a unit: a command line of bedstone's own, and its caller."""

    argv: tuple[str, ...]
    caller: str


def installed() -> bool:
    """Return whether the unit is on this server."""
    return paths.host("/etc/systemd/system/bedstone-operation@.service").exists()


def start(app: str, argv: Sequence[str], *, wait_seconds: float = 0) -> None:
    """Run a command in an app's unit.

    Args:
        app: whose.
        argv: the command and its arguments, as on the command line.
        wait_seconds: how long to wait for a running operation.

    Raises:
        LockedError: one is; says whose, and since when.
        BedstoneError: the unit doesn't start.

    """
    systemd = Systemd()
    with lock.held(f"{app}.request", f"bedstone {' '.join(argv)}", wait_seconds=60):
        _wait_until_free(systemd, app, wait_seconds)
        request = Request(tuple(argv), lock.caller())
        paths.ensure_private(_directory())
        files.write(_request(app), json.dumps(asdict(request)), mode=0o600)
        _log(app).unlink(missing_ok=True)
        files.write(_log(app), "", mode=0o600)
        try:
            systemd.start_soon(names.operation_unit(app))
        except CommandError as error:
            raise BedstoneError(
                f"{names.operation_unit(app)} doesn't start.",
                hint=f"`systemctl status {names.operation_unit(app)}` says why; with --foreground"
                " the operation runs in this terminal.",
                details=error.details,
            ) from error
        _wait_until_taken(systemd, app)


def _wait_until_taken(systemd: Systemd, app: str) -> None:
    """Wait until the unit has read its request: the next caller's would take its place."""
    deadline = time.monotonic() + _BEGIN_SECONDS
    asked = time.monotonic()
    while _request(app).exists() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() > asked + _STATE_EVERY_SECONDS:
            asked = time.monotonic()
            # Inactive it also is while systemd hasn't come to it.
            if systemd.active(names.operation_unit(app)) == "failed":
                return


def _wait_until_free(systemd: Systemd, app: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    ending: float | None = None
    while True:
        owner = lock.owner(app)
        if owner is not None:
            ending = None
            if time.monotonic() > deadline:
                raise lock.LockedError(
                    f"{app} is locked by {owner.words()}.",
                    hint=f"Look on: `bedstone watch {app}`. Call it off:"
                    f" `systemctl stop {names.operation_unit(app)}`, which undoes what it has"
                    " done.",
                )
        else:
            if systemd.active(names.operation_unit(app)) in _GONE:
                return
            # It has done its work, and its hooks or its tidying up are on their way.
            ending = ending or time.monotonic()
            if time.monotonic() > ending + _END_SECONDS:
                unit = names.operation_unit(app)
                raise BedstoneError(f"{unit} doesn't end: `systemctl status {unit}`.")
        time.sleep(_STATE_EVERY_SECONDS if owner else _ENDING_EVERY_SECONDS)


def take(app: str) -> Request:
    """Return what the unit of an app is to do, once.

    Raises:
        BedstoneError: nothing was asked for.

    """
    try:
        data = json.loads(_request(app).read_text(encoding="utf-8"))
        _request(app).unlink()
    except (OSError, ValueError) as error:
        raise BedstoneError(
            f"Nobody has asked for anything to be done with {app}.",
            hint=f"`bedstone release {app}` and the like start this unit by themselves.",
        ) from error
    return Request(tuple(data["argv"]), str(data["caller"]))


class Log:
    """The output of an operation, for its followers."""

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle

    def line(self, text: str) -> None:
        """Add a line of text."""
        self._write({"line": text})

    def end(self, outcome: dict[str, Any]) -> None:
        """Add how it went; nothing follows."""
        self._write({"end": outcome})

    def _write(self, entry: dict[str, Any]) -> None:
        # A full disk stops no release; followers are still notified of its end.
        with suppress(OSError):
            self._handle.write(json.dumps(entry) + "\n")
            self._handle.flush()


@contextmanager
def log(app: str) -> Iterator[Log]:
    """Open the log of an app's operation for a block."""
    paths.ensure_private(_directory())
    descriptor = os.open(_log(app), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as handle:
        yield Log(handle)


def follow(app: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Follow an app's operation from its first line to its end.

    Args:
        app: whose.
        say: called with each line of text.

    Returns:
        how it went, as JSON; None when it was killed before it could report.

    Raises:
        BedstoneError: no operation of the app has run since the server booted.

    """
    systemd = Systemd()
    try:
        handle = _log(app).open(encoding="utf-8")
    except FileNotFoundError as error:
        raise BedstoneError(
            f"Nothing has been done with {app} since this server booted.",
            hint=f"`bedstone status` and `bedstone releases {app}` tell what was done before.",
        ) from error
    with handle:
        looked = asked = time.monotonic()
        begun = asked + _BEGIN_SECONDS
        rest = ""
        while True:
            rest += handle.readline()
            if rest.endswith("\n"):
                entry, rest, begun = json.loads(rest), "", 0.0
                if "end" in entry:
                    return dict(entry["end"])
                say(str(entry["line"]))
                continue
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            if now < looked + _STATE_EVERY_SECONDS:
                continue
            looked = now
            # Its lock ends with the operation, however that ends.
            runs = lock.owner(app) is not None
            if runs and now < asked + _STATE_OF_RUNNING_EVERY_SECONDS:
                continue
            asked = now
            if systemd.active(names.operation_unit(app)) in _GONE and asked > begun:
                # What it wrote last may have come after the look into the file.
                return _last(handle, rest, say)


def _last(handle: IO[str], rest: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    for line in (rest + handle.read()).splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if "end" in entry:
                return dict(entry["end"])
            say(str(entry["line"]))
    return None


def _directory() -> Path:
    return paths.runtime() / "operations"


def _request(app: str) -> Path:
    return _directory() / f"{app}.json"


def _log(app: str) -> Path:
    return _directory() / f"{app}.log"
