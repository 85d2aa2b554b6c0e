"""Lock an app for one operation; other callers get the holder, its purpose and its step.

The lock is the kernel's (``flock``): it ends with the process that holds it, however that ends, so
a dead holder never blocks, whatever the file says, and without a time-out. The file's text names
the holder, its start, its step and the time of its last report. A hanging holder is stopped from
outside: the unit that an operation runs in has a time limit.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.core import paths
from bedstone.core.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_SECONDS = 0.1
# A process that reads a lock's owner holds it for an instant; that is no reason for a refusal.
_LEAST_WAIT_SECONDS = 0.3
CALLER_VARIABLE = "BEDSTONE_CALLER"


@dataclass(frozen=True)
class Owner:
    """The holder of a lock; times are ISO 8601 in UTC.

    ``step`` is its present step, ``beat`` when it began with that.
    """

    pid: int
    purpose: str
    user: str
    since: str
    step: str | None = None
    beat: str | None = None

    def words(self) -> str:
        """Return all of it as text."""
        text = f"`{self.purpose}` (process {self.pid}, {self.user}, since {self.since}"
        if self.step:
            text += f", at {self.step} since {self.beat}"
        return f"{text})"


class LockedError(RefusedError):
    """Another process holds the lock."""


class Held:
    """A lock that this process holds."""

    def __init__(self, descriptor: int, owner: Owner) -> None:
        self._descriptor = descriptor
        self._owner = owner
        self._write()

    def beat(self, step: str) -> None:
        """Record that the holder is alive, and its step."""
        self._owner = replace(self._owner, step=step, beat=_now())
        self._write()

    def _write(self) -> None:
        text = json.dumps(asdict(self._owner)).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


@contextmanager
def held(name: str, purpose: str, *, wait_seconds: float = 0) -> Iterator[Held]:
    """Hold the lock ``name`` (an app's name, ``nginx``, ...) for a block.

    Args:
        name: what is locked.
        purpose: what for, shown to others ("bedstone release payments").
        wait_seconds: how long to wait for another holder to finish.

    Raises:
        LockedError: another process holds it still; says which, and since when.

    """
    descriptor = _open(name)
    try:
        _acquire(descriptor, name, wait_seconds)
        yield Held(descriptor, Owner(os.getpid(), purpose, caller(), _now()))
    finally:
        # Not truncated: a reader that finds the text of a former owner asks the kernel.
        os.close(descriptor)


def owner(name: str) -> Owner | None:
    """Return the present holder of the lock ``name``, or None."""
    descriptor = _open(name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def caller() -> str:
    """Return the name of the person (or the account) that asked for what this process does."""
    names = (os.environ.get(name) for name in (CALLER_VARIABLE, "SUDO_USER", "USER"))
    return next((name for name in names if name), "root")


def path(name: str) -> Path:
    """Return the file that is locked."""
    return paths.runtime() / "locks" / f"{name}.lock"


def _open(name: str) -> int:
    paths.ensure_private(path(name).parent)
    return os.open(path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _acquire(descriptor: int, name: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + max(wait_seconds, _LEAST_WAIT_SECONDS)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                found = _read(descriptor)
                raise LockedError(
                    f"{name} is locked by {found.words()}.",
                    hint="Wait until it has finished (`bedstone watch APP` looks on); a holder"
                    " that dies frees the lock by itself.",
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _read(descriptor: int) -> Owner:
    try:
        return Owner(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        # Between taking the lock and writing its name.
        return Owner(0, "something that has just begun", "?", _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
