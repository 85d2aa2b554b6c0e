"""Classify the result of a verification, and whether it says anything about the backup."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bedstone.core import disk, paths
from bedstone.core.deadline import OutOfTimeError
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger.verifications import Verification
from bedstone.postgres.temporary import ThrowawayError
from bedstone.storage import reachability
from bedstone.storage.reachability import ReachError
from bedstone.verify.checks import Proof
from bedstone.wal.errors import ForeignError, GoneError, UnreachableError

_HINT = (
    "Don't count on this backup. Make a new one (`bedstone backup {app}`) and verify it;"
    " `bedstone backups {app} --check` tells which others are intact."
)
_WAL_HINT = (
    "Don't count on the WAL at {destination}. Make a new backup, which doesn't need what is there,"
    " and verify it: `bedstone wal full --destination {destination}`."
)


@dataclass(frozen=True)
class Result:
    """The verification of one part of a backup.

    Attributes:
        entry: what the ledger gets.
        path: the backup's directory, or None when there is none.
        said: what was verified, or nothing.
        problem: what was wrong, or None.

    """

    entry: Verification
    path: str | None
    said: str
    problem: BedstoneError | None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            **asdict(self.entry),
            "path": self.path,
            "said": self.said,
            "hint": self.problem.hint if self.problem else None,
            "details": self.problem.details if self.problem else "",
        }


class Clock:
    """When something began."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Return how long it has taken, whatever the server's clock did."""
        return round(time.monotonic() - self._began, 1)


def from_error(
    app: str,
    kind: str,
    backup: str | None,
    path: str | None,
    destination: str,
    clock: Clock,
    outcome: Proof | BaseException,
) -> Result:
    """Return how the verification of one part went.

    Args:
        app: whose; "" for the whole cluster.
        kind: the part.
        backup: its name, or None when there is none.
        path: its directory on this server, or None.
        destination: where it was fetched from.
        clock: when it began.
        outcome: what was verified, or what went wrong.

    """
    proof = outcome if isinstance(outcome, Proof) else None
    problem = None if isinstance(outcome, Proof) else _as_problem(app, destination, outcome)
    state = "succeeded" if problem is None else "prevented" if _prevents(problem) else "failed"
    error = None
    if problem is not None:
        error = "\n".join([problem.message, *problem.details.splitlines()[:3]])
    return Result(
        entry=Verification(
            app=app,
            kind=kind,
            backup=backup,
            destination=destination,
            state=state,
            started_at=clock.started.isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            seconds=clock.seconds(),
            rows=proof.rows if proof else None,
            bytes=proof.bytes if proof else None,
            error=error,
        ),
        path=path,
        said=proof.said if proof else "",
        problem=problem,
    )


def _as_problem(app: str, destination: str, error: BaseException) -> BedstoneError:
    """Return the error with a hint; a full disk has a separate message."""
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return _full(str(error))
        error = BedstoneError(f"It could not be verified: {error}.")
    assert isinstance(error, BedstoneError)
    if os.strerror(errno.ENOSPC) in f"{error.message}\n{error.details}":
        return _full(error.details or error.message)
    if error.hint is None and not _prevents(error):
        hint = (_HINT if app else _WAL_HINT).format(app=app, destination=destination)
        if (origin := paths.origin()) is not None:
            hint = f"On {origin}: {hint}"
        return BedstoneError(error.message, hint, error.details)
    return error


def _full(details: str) -> disk.DiskFullError:
    return disk.DiskFullError(
        "The verification was stopped: the disk is full.",
        hint="Make room (`df -h`), or verify on another disk (`backup_verify_directory`).",
        details=details,
    )


def _prevents(error: BedstoneError) -> bool:
    """Return whether an error says nothing about the backup itself."""
    if isinstance(error, (RefusedError, OutOfTimeError, ThrowawayError, EndedError)):
        # These are refused because of what lies there.
        return not isinstance(error, (ForeignError, GoneError))
    if isinstance(error, ReachError):
        return error.reason in {
            reachability.UNREACHABLE,
            reachability.HOST_KEY,
            reachability.REFUSED,
        }
    return isinstance(error, UnreachableError)


class EndedError(BedstoneError):
    """An operator or a shutdown ended it."""


def ended(error: KeyboardInterrupt) -> EndedError:
    """Return the error for an interrupt."""
    del error
    return EndedError("It was ended before it was through.")
