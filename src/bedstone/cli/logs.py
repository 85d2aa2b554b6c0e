"""Write the program's log to standard error: for a person, or with priorities for the journal."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from bedstone.core import errors

# sd-daemon(3): journald takes the number at a line's beginning as its priority.
_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))
_DEBUG = "<7>"


class Handler(logging.Handler):
    """Writes records to the standard error of the moment, without the apps' secrets."""

    def __init__(self, *, priorities: bool = True) -> None:
        """Write journald's priorities, if the journal reads standard error, unless told not to."""
        super().__init__()
        self.priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        """Return what is written: progress as it is, a warning or an error with our name."""
        # Masked first: a secret may hold what is written out then.
        text = errors.printable(errors.masked(super().format(record)))
        if record.levelno >= logging.WARNING:
            text = f"bedstone: {text}"
        if self.priorities and _is_journal():
            priority = _priority(record.levelno)
            text = "\n".join(priority + line for line in text.split("\n"))
        return text

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a reader that is gone ends nothing."""
        # A message that can't be written ends nothing; logging's own report would show secrets.
        with suppress(Exception):
            # Looked up each time: tests and callers replace it.
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def configure(*, priorities: bool = True) -> None:
    """Send the program's log to standard error.

    Args:
        priorities: whether the unit that runs this lets journald read priorities; one with
            SyslogLevelPrefix=no doesn't.

    """
    logger = logging.getLogger("bedstone")
    logger.setLevel(logging.INFO)
    for handler in logger.handlers:
        if isinstance(handler, Handler):
            handler.priorities = priorities
            return
    logger.addHandler(Handler(priorities=priorities))


def _priority(level: int) -> str:
    return next((prefix for least, prefix in _PRIORITIES if level >= least), _DEBUG)


def _is_journal() -> bool:
    """Return whether standard error goes to the journal: systemd.exec(5), JOURNAL_STREAM."""
    wanted = os.environ.get("JOURNAL_STREAM")
    if not wanted:
        return False
    # ValueError: closed, or another object than a file took its place (io.UnsupportedOperation).
    with suppress(OSError, ValueError, AttributeError):
        status = os.fstat(sys.stderr.fileno())
        return wanted == f"{status.st_dev}:{status.st_ino}"
    return False
