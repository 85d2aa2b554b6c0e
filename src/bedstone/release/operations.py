"""Carry out an operation on an app: lock, reconcile, decide, run the steps, record."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bedstone.apps import config, current
from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, releases
from bedstone.release import changes, fingerprint, plans, reconcile, source, transaction
from bedstone.release.context import ReleaseOptions, Rollout
from bedstone.release.outcome import Outcome, StepReport, StreamedOutput
from bedstone.system.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from bedstone.ledger.releases import Entry, Kind, Serving
    from bedstone.release.transaction import Step

# An earlier run whose connection was lost may still be running: a build, migrations, a drain.
WAIT_FOR_RUNNING_SECONDS = 3 * 3600.0


class Interrupted(BaseException):
    """A signal asked the operation to end; it is undone.

    No `except Exception` of a step that ignores errors may catch it, so it is no Exception.
    """


@dataclass
class _Work:
    """One operation on one app, with the lock held."""

    app: str
    host: Host
    connection: sqlite3.Connection
    output: StreamedOutput
    held: lock.Held
    outcome: Outcome
    began: float = field(default_factory=time.monotonic)

    @property
    def old(self) -> Serving | None:
        return releases.serving(self.connection, self.app)


class _Record:
    """Writes the steps into the ledger, the lock, the outcome, and to the caller's output."""

    def __init__(self, work: _Work, operation: int, offset: int = 0) -> None:
        self._work = work
        self._operation = operation
        self._offset = offset

    def started(self, position: int, name: str) -> None:
        self._work.held.beat(name)
        self._write(position, name, "running")

    def done(self, position: int, name: str, seconds: float, said: str) -> None:
        self._write(position, name, "done", seconds, said)
        self._work.outcome.steps.append(StepReport(name, "done", round(seconds, 3), said))
        self._work.output.say(f"  {name:<13}{seconds:7.1f} s  {said}")

    def failed(self, position: int, name: str, seconds: float, error: BaseException) -> None:
        words = str(error).partition("\n")[0]
        self._write(position, name, "failed", seconds, words)
        self._work.outcome.steps.append(StepReport(name, "failed", round(seconds, 3), words))
        self._work.output.say(f"  {name:<13}{seconds:7.1f} s  FAILED: {words}")

    def undone(self, position: int, name: str, error: BaseException | None) -> None:
        if error is None:
            self._write(position, name, "undone")
            self._work.output.say(f"  {name:<13}           undone")
        else:
            self._work.outcome.warnings.append(f"Undoing {name} failed: {error}")
            self._work.output.say(f"  {name:<13}           NOT undone: {error}")

    def _write(
        self,
        position: int,
        name: str,
        state: str,
        seconds: float | None = None,
        said: str | None = None,
    ) -> None:
        row = releases.StepRow(position + self._offset, name, state, seconds, said)
        releases.step(self._work.connection, self._operation, row)


def release(
    name: str,
    *,
    if_changed: bool = False,
    options: ReleaseOptions | None = None,
    host: Host | None = None,
    output: StreamedOutput | None = None,
) -> Outcome:
    """Release the declared version of an app.

    Args:
        name: the app.
        if_changed: do nothing when source, settings and environment are those
            of the release that serves, but start what of it doesn't run.
        options: the operator's options.
        host: the server.
        output: where progress is written.

    Returns:
        how it went; a failed step is in it, not raised.

    Raises:
        BedstoneError: the release couldn't begin: no such app, another operation is running, its
            source or a file of it isn't there.

    """
    app = config.load(name)
    options = options or ReleaseOptions()
    with _working("release", name, host, output, wait=if_changed) as work:
        outcome = work.outcome
        identities = source.identify_all(app, work.host.docker, work.host.run)
        prints = fingerprint.compute(app, identities)
        outcome.reason = changes.reason(work.connection, name, prints)
        if if_changed and (newer := changes.rolled_back_from(work.connection, name, prints)):
            return _hold(work, newer)
        if not outcome.reason and changes.is_rebuilt(app, rebuild=options.rebuild):
            outcome.reason = changes.REBUILT
        if if_changed and not outcome.reason:
            outcome.changed = outcome.changed or bool(outcome.put_right)
            return outcome
        new = releases.NewRelease(
            source.version(app.image, identities[""]), prints.whole, prints.declared, prints.build
        )
        old = work.old
        release_id, operation = releases.begin(work.connection, name, new, lock.caller())
        rollout = Rollout(
            app, release_id, operation, old, work.host, work.connection, work.output.on_line,
            options, identities, prints.builds,
        )  # fmt: skip
        _carry_out(work, rollout, plans.release(app, first=old is None))
        return outcome


def rollback(
    name: str,
    wanted: str | None = None,
    *,
    options: ReleaseOptions | None = None,
    host: Host | None = None,
    output: StreamedOutput | None = None,
) -> Outcome:
    """Roll the app back to an earlier release.

    Args:
        name: the app.
        wanted: a release that is kept (or the beginning of its id); by default the
            one before the one that serves.
        options: the operator's options.
        host: the server.
        output: where progress is written.

    Raises:
        BedstoneError: it couldn't begin.
        RefusedError: there is no such release, or it isn't kept.

    """
    config.load(name)
    with _working("rollback", name, host, output) as work:
        target = _target(work.connection, name, wanted)
        _bring_back(work, "rollback", target.id, options or ReleaseOptions())
        return work.outcome


def restart(
    name: str, *, host: Host | None = None, output: StreamedOutput | None = None
) -> Outcome:
    """Restart the serving release in the other slot, and move the requests there.

    Args:
        name: the app.
        host: the server.
        output: where progress is written.

    Raises:
        BedstoneError: the app has no serving release, or another operation is running.

    """
    with _working("restart", name, host, output) as work:
        found = current.load(name)
        operation = releases.begin_operation(
            work.connection, name, "restart", found.release, lock.caller()
        )
        rollout = Rollout(
            found.app, found.release, operation, work.old, work.host, work.connection,
            work.output.on_line, image=found.made.image, uid=found.made.uid, gid=found.made.gid,
            own_images=dict(found.made.services),
        )  # fmt: skip
        _carry_out(work, rollout, plans.restart(found.app))
        return work.outcome


def put_right(
    name: str, *, host: Host | None = None, output: StreamedOutput | None = None
) -> Outcome:
    """Finish or undo a killed operation, without starting a new one.

    Args:
        name: the app.
        host: the server.
        output: where progress is written.

    Raises:
        LockedError: another operation is running, which does the same first.

    """
    with _working("settle", name, host, output) as work:
        work.outcome.changed = work.outcome.changed or bool(work.outcome.put_right)
        return work.outcome


def _hold(work: _Work, newer: Entry) -> Outcome:
    """Leave what was rolled back to serving, with the secrets of today."""
    outcome, old = work.outcome, work.old
    outcome.reason = ""
    if old is None:
        return outcome
    warning = changes.held_back(work.app, newer.id)
    if changes.secrets_are_old(config.load(work.app), old.release):
        outcome.reason = "its secrets have changed"
        _bring_back(work, "restart", old.release, ReleaseOptions(keep_schema=True))
    else:
        outcome.changed = outcome.changed or bool(outcome.put_right)
    outcome.warnings.append(warning)
    return outcome


def _target(connection: sqlite3.Connection, name: str, wanted: str | None) -> Entry:
    serving = releases.serving(connection, name)
    if serving is None:
        raise RefusedError(f"Nothing of {name} serves: there is nothing to roll back.")
    kept = [entry for entry in releases.kept(connection, name) if entry.id != serving.release]
    if wanted is None:
        older = [entry for entry in kept if entry.id < serving.release]
        if older:
            return _served_before(connection, name, serving, older)
        raise RefusedError(
            f"No release of {name} before {serving.release} is kept.",
            hint=f"`bedstone releases {name}` lists those that are.",
        )
    found = [entry for entry in kept if entry.id == wanted or entry.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if serving.release.startswith(wanted) and not found:
        raise RefusedError(
            f"{serving.release} is what serves.", hint=f"`bedstone restart {name}` starts it anew."
        )
    listed = "\n".join(entry.id for entry in (found or kept)) or "none"
    what = "fits more than one release" if found else "isn't a release that is kept"
    raise RefusedError(f"{wanted!r} {what} of {name}.", details=listed)


def _served_before(
    connection: sqlite3.Connection, name: str, serving: Serving, older: Sequence[Entry]
) -> Entry:
    """Return what served when the release that serves was made: not what was rolled back from."""
    for operation in releases.operations(connection, name):
        if operation.release == serving.release and operation.kind == "release":
            for entry in older:
                if entry.id == operation.previous:
                    return entry
    return older[0]


# --- doing ---------------------------------------------------------------------------------


@contextmanager
def _working(
    kind: Kind | str,
    name: str,
    host: Host | None,
    output: StreamedOutput | None,
    *,
    wait: bool = False,
) -> Iterator[_Work]:
    """Hold the app's lock for a block that begins with the app reconciled."""
    host, output = host or Host(), output or StreamedOutput()
    waited = WAIT_FOR_RUNNING_SECONDS if wait else 0
    with _interrupts_told(name), ExitStack() as stack:
        held = stack.enter_context(lock.held(name, f"bedstone {kind} {name}", wait_seconds=waited))
        connection = stack.enter_context(database.opened())
        stack.enter_context(_signals_interrupt())
        outcome = Outcome(name, changed=False)
        if kind in {"rollback", "restart"}:
            outcome.kind = "rollback" if kind == "rollback" else "restart"
        work = _Work(name, host, connection, output, held, outcome)
        held.beat("settle")
        interrupted = releases.close_interrupted(connection, name)
        for operation in interrupted:
            words = f"The {operation.kind} of {operation.release} was killed before it ended."
            outcome.interrupted.append(words)
            outcome.warnings.append(words)
            outcome.changed = True
            output.say(f"  {words}")
        reconcile.sweep(name)
        old = releases.serving(connection, name)
        if old is not None:
            outcome.previous = outcome.release = old.release
            _settle(work, old)
        elif left := reconcile.clear(host, name):
            outcome.put_right = [f"{key} was left by the first release" for key in left]
        yield work
        outcome.seconds = round(time.monotonic() - work.began, 3)


def _settle(work: _Work, old: Serving) -> None:
    outcome = work.outcome
    try:
        wanted = reconcile.plan(work.host, work.app, old, alone=True)
        for words in wanted.words():
            work.output.say(f"  putting right: {words}")
        reconcile.put_right(work.host, wanted)
        outcome.put_right = wanted.words()
    except BedstoneError as error:
        # A new release may be just the cure; without one, this is the failure.
        outcome.fail("settle", error)
        outcome.changed = True
        work.output.say(f"  not put right: {error}")


def _bring_back(work: _Work, kind: Kind, release_id: str, options: ReleaseOptions) -> None:
    """Carry out a rollback's steps, to a kept release."""
    app = config.load_file(paths.release(work.app, release_id) / "app.json")
    old = work.old
    operation = releases.begin_operation(work.connection, work.app, kind, release_id, lock.caller())
    rollout = Rollout(
        app, release_id, operation, old, work.host, work.connection, work.output.on_line, options,
        newer=current.load(work.app),
    )  # fmt: skip
    work.outcome.kind = kind
    _carry_out(work, rollout, plans.rollback(app))


def _carry_out(work: _Work, rollout: Rollout, steps: Sequence[Step[Rollout]]) -> None:
    outcome, kind = work.outcome, work.outcome.kind
    if outcome.error is not None:
        outcome.warnings.append(f"What served before isn't all right: {outcome.error}")
        outcome.forgive()
    outcome.changed = True
    try:
        transaction.execute(
            steps,
            rollout,
            _Record(work, rollout.operation),
            decided=lambda: _decided(work, rollout),
        )
    except transaction.StepFailedError as error:
        outcome.restore_point = rollout.restore_point
        outcome.fail(error.step, _with_restore_point(error, rollout))
        # On a full disk it stays `running`, and the next operation closes it.
        with suppress(sqlite3.Error):
            releases.fail(
                work.connection,
                rollout.operation,
                error.step,
                error.message,
                hint=outcome.hint,
                details=outcome.details,
            )
        if error.not_undone:
            _tidy_up(work)
        return
    outcome.restore_point = rollout.restore_point
    outcome.release = rollout.id
    complete = True
    for number, step in enumerate(plans.after_record(kind, work.app), start=len(steps)):
        record = _Record(work, rollout.operation, offset=number)
        try:
            transaction.execute([step], rollout, record)
        except transaction.StepFailedError as error:
            complete = False
            outcome.warnings.append(f"{step.name}: {error.message}")
    if not complete:
        _tidy_up(work)


def _decided(work: _Work, rollout: Rollout) -> bool:
    """Return whether the ledger says that the running operation's release serves."""
    try:
        serving = work.old
    except sqlite3.Error:
        return False
    return (
        serving is not None
        and serving.release == rollout.id
        and serving.slot == rollout.slot
        and serving != rollout.old
    )


def _tidy_up(work: _Work) -> None:
    """Try once more to make all agree with the ledger, when draining or undoing failed."""
    try:
        serving = work.old
        if serving is None:
            return
        wanted = reconcile.plan(work.host, work.app, serving, alone=True)
        reconcile.put_right(work.host, wanted)
    except (BedstoneError, sqlite3.Error, Interrupted) as error:
        work.outcome.warnings.append(f"Not put right: {error}")
    else:
        work.outcome.put_right += wanted.words()


def _with_restore_point(
    error: transaction.StepFailedError, rollout: Rollout
) -> transaction.StepFailedError:
    """Add to a failure how to restore the previous data, if the schema may have changed."""
    if rollout.restore_point is None:
        return error
    text = (
        f"The data as it was before is in the restore point {rollout.restore_point}; it is not"
        f" restored by itself: `bedstone restore {rollout.app.name} {rollout.restore_point}`."
    )
    error.hint = f"{error.hint}\n{text}" if error.hint else text
    return error


@contextmanager
def _interrupts_told(name: str) -> Iterator[None]:
    """Turn a signal outside of all steps into an error."""
    try:
        yield
    except Interrupted as error:
        raise BedstoneError(
            f"It was {error}, and nothing more was begun.",
            hint=f"`bedstone settle {name}` puts right what it has left, and so does the next"
            " operation.",
        ) from None


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn signals that end a program into an error, so that an operation undoes itself."""

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
