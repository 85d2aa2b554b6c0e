"""One holder at a time, and everyone else is told who it is.

The lock is the kernel's (``flock``): it ends with the process that holds it,
however that ends, so a dead holder never blocks and nothing has to expire. The
file's text says who holds it and since when.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone import paths
from bedstone.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_SECONDS = 0.2


class LockedError(RefusedError):
    """Somebody else is at it."""


@contextmanager
def held(name: str, purpose: str, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold the lock ``name`` (an app's name, ``nginx``, ...) for a block.

    Args:
        name: what is locked.
        purpose: what for, shown to others ("release payments").
        wait_seconds: how long to wait for another holder to finish.

    Raises:
        LockedError: another process holds it still; says which, and since when.

    """
    directory = paths.runtime() / "locks"
    paths.ensure_private(directory)
    descriptor = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, name, wait_seconds)
        owner = {
            "pid": os.getpid(),
            "purpose": purpose,
            "user": os.environ.get("SUDO_USER") or os.environ.get("USER") or "root",
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, name: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{name} is locked by {_owner(descriptor)}.",
                    hint="Wait until it has finished; a holder that dies frees the lock by itself.",
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return (
            f"`{owner['purpose']}` (process {owner['pid']}, {owner['user']},"
            f" since {owner['since']})"
        )
    except (ValueError, KeyError):
        # Between taking the lock and writing its name.
        return "a process that has just begun"
