"""Limit the time of a block, whatever the process is waiting for."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class OutOfTimeError(BedstoneError):
    """The limit was reached; the caller undoes what it had begun."""


@contextmanager
def limit(seconds: float, what: str) -> Iterator[None]:
    """Raise in a block, in the main thread, once it has taken too long.

    Args:
        seconds: the limit; 0 or less is over at once.
        what: what is limited, for the message ("The verification").

    Raises:
        OutOfTimeError: the limit was reached.

    """

    def over(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise OutOfTimeError(
            f"{what} was stopped: its time limit was reached.",
            hint="A longer one is `backup_verify_limit_minutes` (role backup); a disk or a"
            " server that is busy with something else makes it slow.",
        )

    before = signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.000_001))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
