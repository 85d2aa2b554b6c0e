"""Run steps as a transaction: all of them, or none.

The engine knows nothing of releases. A step that fails is undone itself (it may
have done half of its work), then those before it, in reverse.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)


@dataclass(frozen=True)
class Step(Generic[C_contra]):
    """One step: a name for machines, what it does, and how it is undone.

    ``do`` returns a few words on what came of it, as text. ``undo`` must
    cope with ``do`` having done nothing, half or all of its work.
    """

    name: str
    do: Callable[[C_contra], str]
    undo: Callable[[C_contra], None] | None = None


class Journal(Protocol):
    """Gets the progress of the steps."""

    def started(self, position: int, name: str) -> None:
        """Record that a step begins."""

    def done(self, position: int, name: str, seconds: float, said: str) -> None:
        """Record that a step has succeeded."""

    def failed(self, position: int, name: str, seconds: float, error: BaseException) -> None:
        """Record that a step has failed."""

    def undone(self, position: int, name: str, error: BaseException | None) -> None:
        """Record that a step was undone, or that its undo failed too."""


class StepFailedError(BedstoneError):
    """A step failed; all before it are undone."""

    def __init__(self, step: str, cause: BaseException, not_undone: Sequence[str]) -> None:
        hint = cause.hint if isinstance(cause, BedstoneError) else None
        details = cause.details if isinstance(cause, BedstoneError) else ""
        message = str(cause) or type(cause).__name__
        if isinstance(cause, Exception) and not isinstance(cause, BedstoneError):
            message = f"{type(cause).__name__}: {message}"
        if not_undone:
            message += f" These steps could not be undone: {', '.join(not_undone)}."
        super().__init__(message, hint, details)
        if isinstance(cause, BedstoneError):
            self.exit_code = cause.exit_code
        self.step = step
        self.not_undone = tuple(not_undone)


def execute(
    steps: Sequence[Step[C]],
    context: C,
    journal: Journal,
    *,
    decided: Callable[[], bool] = lambda: False,
) -> None:
    """Run all steps in order, or undo those that were begun.

    Args:
        steps: the steps.
        context: what they work on.
        journal: gets the progress of the steps.
        decided: whether it is decided that all of it holds. What fails or is interrupted
            from then on, even within the step that decides, undoes nothing.

    Raises:
        StepFailedError: a step failed or was interrupted.

    """
    position = 0
    try:
        for position, step in enumerate(steps):
            started = time.monotonic()
            try:
                journal.started(position, step.name)
                said = step.do(context)
                journal.done(position, step.name, time.monotonic() - started, said)
            except BaseException as error:
                if decided():
                    with suppress(Exception):
                        seconds = time.monotonic() - started
                        journal.done(position, step.name, seconds, f"done, in spite of: {error}")
                    continue
                # Undoing matters more than writing down that it is done: the disk may be full.
                with suppress(Exception):
                    journal.failed(position, step.name, time.monotonic() - started, error)
                not_undone = _undo(steps[: position + 1], context, journal)
                raise StepFailedError(step.name, error, not_undone) from error
    except StepFailedError:
        raise
    except BaseException as error:
        # A signal between two steps.
        if decided():
            return
        not_undone = _undo(steps[: position + 1], context, journal)
        raise StepFailedError(steps[position].name, error, not_undone) from error


def _undo(steps: Sequence[Step[C]], context: C, journal: Journal) -> list[str]:
    not_undone = []
    for position, step in reversed(list(enumerate(steps))):
        if step.undo is None:
            continue
        try:
            step.undo(context)
        except BaseException as error:  # noqa: BLE001 - the others must be undone all the same
            not_undone.append(step.name)
            with suppress(Exception):
                journal.undone(position, step.name, error)
        else:
            with suppress(Exception):
                journal.undone(position, step.name, None)
    return not_undone
