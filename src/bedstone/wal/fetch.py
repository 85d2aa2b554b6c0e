"""The command by which a recovery fetches WAL: a destination that fails is no end of the WAL.

PostgreSQL takes each exit code up to 125 of its ``restore_command`` as "there is no such segment",
and at that place a recovery ends and the cluster is promoted. pgBackRest ends with 1 for a segment
that isn't there, and with other codes below 126 for everything that went wrong, an unreachable
destination among them. So the codes between are tried again, then turned into one at which
PostgreSQL stops. A damaged segment stays the end of the WAL, which the caller reports: no other try
and no other day makes it whole.

Sources: PostgreSQL's RestoreArchivedFile (xlogarchive.c); pgBackRest's archiveGetFile.
"""

from __future__ import annotations

import re

from bedstone.core.errors import BedstoneError
from bedstone.core.process import tail

# Above 128 stops PostgreSQL; no signal has this number, and 143 would end it without a word.
STOPPED = 200
TRIES = 3
PAUSE_SECONDS = 10
# PostgreSQL's own words when the command ended with such a code.
_STOPPED = re.compile(rf'could not restore file "[^"]+" from archive: .*\b{STOPPED}\b')
_COMMAND = re.compile(r"^restore_command *= *'(.*)'$", re.MULTILINE)
# What pgBackRest calls a file that it has read and can't decrypt or decompress.
_DAMAGED = ("FormatError", "CryptoError")
# One line: settings that a file holds can have no more.
_SCRIPT = (
    "tries={tries}; while :; do said=$({command} 2>&1) && exit 0; code=$?;"
    ' [ -z "$said" ] || printf "%%s\\n" "$said" >&2; [ $code -ne 1 ] || exit 1;'
    " case $said in {damaged}) exit 1;; esac;"
    " tries=$((tries - 1)); [ $tries -gt 0 ] || exit {stopped}; sleep {pause}; done"
)


def command_of(settings: str) -> str:
    """Return the command in a ``postgresql.auto.conf`` as pgBackRest has written it.

    Raises:
        BedstoneError: there is none.

    """
    found = _COMMAND.findall(settings)
    if not found:
        raise BedstoneError("What was restored says nothing of where its WAL is fetched.")
    return str(found[-1]).replace("''", "'")


def guarded(command: str, *, tries: int = TRIES, pause_seconds: float = PAUSE_SECONDS) -> str:
    """Return a ``restore_command`` that stops the recovery when the destination fails.

    Args:
        command: pgBackRest's own, with ``%f`` and ``%p``.
        tries: how often it is called for a segment.
        pause_seconds: between two calls.

    """
    return _SCRIPT.format(
        command=command,
        tries=tries,
        pause=f"{pause_seconds:g}",
        damaged="|".join(f'*"unable to get "*"[{name}]"*' for name in _DAMAGED),
        stopped=STOPPED,
    )


def failure(log: str, where: str) -> BedstoneError | None:
    """Return the error if it was the destination that stopped a recovery, or None.

    Args:
        log: PostgreSQL's.
        where: the destination's name.

    """
    if _STOPPED.search(log) is None:
        return None
    return BedstoneError(
        f"WAL could not be fetched from {where}, {TRIES} times in a row, so the recovery was"
        " stopped: to end it there would have lost what was archived later.",
        hint="Again, once the destination answers: `bedstone destinations --check` tries it.",
        details=tail(log),
    )
