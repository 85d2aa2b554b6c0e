"""Carry out a release: lock, decide whether there is anything to do, run the steps, record."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bedstone import config, fingerprint, history, ledger, lock, settle, source, transaction
from bedstone.errors import BedstoneError
from bedstone.rollout import sequences
from bedstone.rollout.context import Host, Rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from bedstone.config import App


@dataclass
class StepReport:
    """How one step went."""

    name: str
    state: str
    seconds: float
    said: str


@dataclass
class Outcome:
    """How a release went; ``changed`` is whether anything on the server did."""

    app: str
    changed: bool
    release: str | None = None
    previous: str | None = None
    reason: str = ""
    seconds: float = 0.0
    steps: list[StepReport] = field(default_factory=list)
    put_right: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed_step: str | None = None
    error: str | None = None
    hint: str | None = None
    details: str = ""

    @property
    def ok(self) -> bool:
        """Whether the app is as it should be."""
        return self.error is None

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a machine."""
        return {"ok": self.ok, **asdict(self)}


class Interrupted(BedstoneError):  # noqa: N818 - it is no error of anybody
    """A signal asked the release to end; it is undone."""


class _Record:
    """Writes the steps into the ledger, the outcome, and to whoever looks on."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        release: Rollout,
        outcome: Outcome,
        say: Callable[[str], None],
        offset: int = 0,
    ) -> None:
        self._connection = connection
        self._release = release
        self._outcome = outcome
        self._say = say
        self._offset = offset

    def started(self, position: int, name: str) -> None:
        self._write(position, name, "running")

    def done(self, position: int, name: str, seconds: float, said: str) -> None:
        self._write(position, name, "done", seconds)
        self._outcome.steps.append(StepReport(name, "done", round(seconds, 3), said))
        self._say(f"  {name:<9}{seconds:7.1f} s  {said}")

    def failed(self, position: int, name: str, seconds: float, error: BaseException) -> None:
        self._write(position, name, "failed", seconds)
        self._outcome.steps.append(StepReport(name, "failed", round(seconds, 3), str(error)))
        self._say(f"  {name:<9}{seconds:7.1f} s  FAILED: {error}")

    def undone(self, position: int, name: str, error: BaseException | None) -> None:
        if error is None:
            self._write(position, name, "undone")
            self._say(f"  {name:<9}           undone")
        else:
            self._outcome.warnings.append(f"Undoing {name} failed: {error}")
            self._say(f"  {name:<9}           NOT undone: {error}")

    def _write(self, position: int, name: str, state: str, seconds: float | None = None) -> None:
        history.step(
            self._connection,
            self._release.app.name,
            self._release.id,
            position + self._offset,
            name,
            state,
            seconds,
        )


def perform(
    name: str,
    *,
    if_changed: bool = False,
    host: Host | None = None,
    say: Callable[[str], None] = lambda _line: None,
    on_line: Callable[[str], None] | None = None,
) -> Outcome:
    """Release an app.

    Args:
        name: the app.
        if_changed: do nothing when source, settings and environment are those
            of the release that serves, but start what of it doesn't run.
        host: the server.
        say: called with lines for people, as the release goes.
        on_line: called with every line that builds and the app's commands print.

    Returns:
        how it went; a failed step is in it, not raised.

    Raises:
        BedstoneError: the release couldn't begin: no such app, somebody else is
            at it, its source or a file of it isn't there.

    """
    host = host or Host()
    began = time.monotonic()
    app = config.load(name)
    with (
        lock.held(name, f"bedstone release {name}"),
        ledger.opened() as connection,
        _signals_interrupt(),
    ):
        outcome = Outcome(name, changed=False)
        for interrupted in history.close_interrupted(connection, name):
            outcome.warnings.append(f"The release {interrupted} was killed before it ended.")
            say(f"  {outcome.warnings[-1]}")
        old = history.serving(connection, name)
        if old is not None:
            outcome.previous = outcome.release = old.release
            _settle(host, connection, name, outcome, say)
        identity = source.identify(app, host.docker, host.run)
        digest = fingerprint.of(app, identity)
        outcome.reason = _reason(connection, name, digest)
        if not (if_changed and not outcome.reason):
            _release(app, identity, digest, outcome, (host, connection, say, on_line))
        elif outcome.error is None:
            outcome.changed = bool(outcome.put_right)
        outcome.seconds = round(time.monotonic() - began, 3)
        return outcome


def would_change(name: str, host: Host | None = None) -> Outcome:
    """Say whether ``perform(if_changed=True)`` would change anything; changes nothing."""
    host = host or Host()
    app = config.load(name)
    with ledger.opened() as connection:
        outcome = Outcome(name, changed=False)
        old = history.serving(connection, name)
        if old is not None:
            outcome.release = outcome.previous = old.release
            outcome.put_right = settle.plan(host, connection, name, old).words()
        identity = source.identify(app, host.docker, host.run, pull=False)
        outcome.reason = _reason(connection, name, fingerprint.of(app, identity))
        outcome.changed = bool(outcome.reason or outcome.put_right)
        return outcome


def _reason(connection: sqlite3.Connection, name: str, digest: str) -> str:
    """Return why a release would change something, or nothing."""
    old = history.serving(connection, name)
    if old is None:
        return "nothing of it serves yet"
    entry = history.get(connection, name, old.release)
    if entry is None or entry.fingerprint != digest:
        return "its source, settings or environment have changed"
    return ""


def _settle(
    host: Host,
    connection: sqlite3.Connection,
    name: str,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    old = history.serving(connection, name)
    if old is None:
        return
    try:
        wanted = settle.plan(host, connection, name, old)
        for words in wanted.words():
            say(f"  putting right: {words}")
        settle.put_right(host, wanted)
        outcome.put_right = wanted.words()
    except BedstoneError as error:
        # A new release may be just the cure; without one, this is the failure.
        outcome.failed_step = "settle"
        outcome.error, outcome.hint, outcome.details = error.message, error.hint, error.details
        outcome.changed = True
        say(f"  not put right: {error}")


def _release(
    app: App,
    identity: str,
    digest: str,
    outcome: Outcome,
    around: tuple[Host, sqlite3.Connection, Callable[[str], None], Callable[[str], None] | None],
) -> None:
    host, connection, say, on_line = around
    if outcome.error is not None:
        outcome.warnings.append(f"The release of before isn't all right: {outcome.error}")
        outcome.failed_step = outcome.error = outcome.hint = None
        outcome.details = ""
    outcome.changed = True
    new_id = history.begin(connection, app.name, source.version(app.image, identity), digest)
    old = history.serving(connection, app.name)
    release = Rollout(app, new_id, identity, old, host, connection, on_line)
    steps = sequences.release(app)
    try:
        transaction.execute(steps, release, _Record(connection, release, outcome, say))
    except transaction.StepFailedError as error:
        # On a full disk it stays `running`, and the next release closes it.
        with suppress(sqlite3.Error):
            history.fail(connection, app.name, new_id, error.step, error.message)
        outcome.failed_step = error.step
        outcome.error, outcome.hint, outcome.details = error.message, error.hint, error.details
        return
    outcome.release = new_id
    for number, step in enumerate(sequences.afterwards(), start=len(steps)):
        record = _Record(connection, release, outcome, say, offset=number)
        try:
            transaction.execute([step], release, record)
        except transaction.StepFailedError as error:
            outcome.warnings.append(f"{step.name}: {error.message}")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn signals that end a program into an error, so that a release undoes itself."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        # Once is enough: undoing must not be interrupted in its turn.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(f"ended by {signal.Signals(number).name}")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
