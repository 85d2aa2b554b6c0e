"""Run other programs: argument lists only, bounded output, never longer than a limit.

The limit is a time, the time without progress (a first copy takes hours, a hanging one should not),
or a check that is called while the program runs. What ends a program ends all that it started.

Secrets go by file, standard input or environment, never in ``argv``: every
user of the server can read another process's arguments.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Protocol

from bedstone.core import reason
from bedstone.core.errors import CommandError, masked, printable

KEPT_CHARACTERS = 1_000_000
ERROR_LINES = 25
GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.25


class TooLongError(CommandError):
    """The program took too long, or made no progress for too long, and was ended."""


@dataclass(frozen=True)
class Completed:
    """The result of a program."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """Standard output and standard error, in this order."""
        return "\n".join(part for part in (self.stdout.rstrip(), self.stderr.rstrip()) if part)


class Runner(Protocol):
    """The shape of :func:`run`, so that tests can put a fake in its place."""

    def __call__(  # noqa: D102 - run() says what each argument is
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = 60,
        check: bool = True,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed: ...


def run(
    argv: Sequence[str],
    *,
    timeout: float | None = 60,
    still_seconds: float | None = None,
    progress: Callable[[str], Hashable] | None = None,
    watch: Callable[[], None] | None = None,
    check: bool = True,
    allowed: Collection[int] = (0,),
    input_text: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    descriptors: Collection[int] = (),
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    on_line: Callable[[str], None] | None = None,
    on_stdout: Callable[[str], None] | None = None,
    kept_characters: int | None = None,
) -> Completed:
    """Run a program and return what it left behind.

    Args:
        argv: program and arguments; no shell is involved.
        timeout: seconds after which it is ended (SIGTERM, ten seconds later SIGKILL).
        still_seconds: seconds without progress after which it is ended.
        progress: returns the part of a line that changes with the program's progress (default: the
            line).
        watch: called repeatedly while it runs; its exception ends the program.
        check: raise when the exit code isn't an allowed one.
        allowed: exit codes that aren't a failure.
        input_text: what it reads from standard input (nothing by default).
        env: variables added to this process's environment.
        cwd: working directory.
        descriptors: open files that it inherits under their numbers.
        stdin: an open file to read from, in place of ``input_text``.
        stdout: an open file that gets its standard output, in place of keeping it.
        on_line: called with every line of output as it comes (from two threads), printable and
            without secrets.
        on_stdout: called with every line of standard output as it is, which then isn't kept.
        kept_characters: how many of the last characters of each stream are kept (default: a
            million).

    Raises:
        TooLongError: out of time, or no progress.
        CommandError: not found, or failed (with ``check``).

    """
    arguments = [str(part) for part in argv]
    shown = shlex.join(arguments)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            arguments,
            stdin=stdin
            if stdin is not None
            else (subprocess.PIPE if input_text is not None else subprocess.DEVNULL),
            stdout=stdout if stdout is not None else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env} if env is not None else None,
            cwd=cwd,
            pass_fds=tuple(descriptors),
            # Ctrl-C at the terminal reaches bedstone alone, which then decides
            # what to undo; its children are not torn away under it.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise CommandError(
            f"The program {arguments[0]!r} isn't on this server.", returncode=None, output=""
        ) from error
    except OSError as error:
        raise CommandError(
            f"{arguments[0]!r} can't be started: {error}", returncode=None, output=""
        ) from error

    limits = _Limits(timeout, still_seconds, progress, watch)
    kept = kept_characters or KEPT_CHARACTERS
    out, err = _Text(kept, limits, on_line, on_stdout), _Text(kept, limits, on_line)
    threads = [
        threading.Thread(target=text.read, args=(stream,), daemon=True)
        for text, stream in ((out, process.stdout), (err, process.stderr))
        if stream is not None
    ]
    if input_text is not None and process.stdin is not None:
        threads.append(
            threading.Thread(target=_feed, args=(process.stdin, input_text), daemon=True)
        )
    for thread in threads:
        thread.start()
    try:
        while True:
            try:
                returncode = process.wait(limits.pause())
                break
            except subprocess.TimeoutExpired:
                if why := limits.exceeded():
                    end(process)
                    _join(threads)
                    raise TooLongError(
                        f"`{shown}` {why} and was ended.",
                        returncode=None,
                        output=tail(f"{out.text()}\n{err.text()}"),
                    ) from None
    except BaseException:
        end(process)
        raise
    _join(threads)
    done = Completed(
        tuple(arguments), returncode, out.text(), err.text(), time.monotonic() - started
    )
    if check and returncode not in allowed:
        raise CommandError(
            f"`{shown}` failed with exit code {returncode}.",
            returncode=returncode,
            output=tail(done.output),
        )
    return done


def watched(watch: Callable[[], None]) -> Runner:
    """Return what runs programs as :func:`run` does, but watched and without a limit.

    Args:
        watch: called repeatedly while one runs; its exception ends the program.

    """

    def call(argv: Sequence[str], **options: Any) -> Completed:
        return run(argv, **{**options, "timeout": None, "watch": watch})

    return call


def end(process: subprocess.Popen[bytes], first: int = signal.SIGTERM) -> None:
    """End a program that leads a session, and all that it has started.

    Args:
        process: the program.
        first: the signal that lets it finish; SIGKILL follows ten seconds later.

    """
    for number in (first, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


def tail(text: str, lines: int = ERROR_LINES) -> str:
    """Return the last lines of a text that aren't empty; see :func:`bedstone.core.reason.tail`."""
    return reason.tail(text, lines)


class _Limits:
    """The time, the progress and the check of a program that runs."""

    def __init__(
        self,
        seconds: float | None,
        still_seconds: float | None,
        progress: Callable[[str], Hashable] | None,
        watch: Callable[[], None] | None,
    ) -> None:
        self._seconds, self._still_seconds = seconds, still_seconds
        self._progress, self._watch = progress, watch
        self._began = self._moved = time.monotonic()
        self._seen: Hashable = None

    def line(self, line: str) -> None:
        seen = self._progress(line) if self._progress is not None else line
        if seen != self._seen:
            self._seen = seen
            self._moved = time.monotonic()

    def pause(self) -> float | None:
        """Return how long to wait for the end before the limits are checked again."""
        left = None
        if self._seconds is not None:
            left = max(self._began + self._seconds - time.monotonic(), 0)
        if self._watch is None and self._still_seconds is None:
            return left
        return _POLL_SECONDS if left is None else min(left, _POLL_SECONDS)

    def exceeded(self) -> str | None:
        """Return which limit is exceeded, or nothing; raise what the check raises."""
        now = time.monotonic()
        if self._seconds is not None and now >= self._began + self._seconds:
            return f"took longer than {self._seconds:g} seconds"
        if self._still_seconds is not None and now > self._moved + self._still_seconds:
            return f"made no progress for {self._still_seconds:g} seconds"
        if self._watch is not None:
            self._watch()
        return None


class _Text:
    """The end of a stream."""

    def __init__(
        self,
        kept: int,
        limits: _Limits,
        on_line: Callable[[str], None] | None,
        on_raw: Callable[[str], None] | None = None,
    ) -> None:
        self._kept, self._limits = kept, limits
        self._on_line, self._on_raw = on_line, on_raw
        self._parts: list[str] = []
        self._length = 0

    def read(self, stream: IO[bytes]) -> None:
        with io.TextIOWrapper(stream, "utf-8", "replace", newline="\n") as lines:
            for line in iter(lambda: lines.readline(KEPT_CHARACTERS), ""):
                self._limits.line(line)
                if self._on_line is not None:
                    self._on_line(printable(masked(line.rstrip("\r\n"))))
                if self._on_raw is not None:
                    self._on_raw(line)
                    continue
                self._parts.append(line)
                self._length += len(line)
                if self._length > 2 * self._kept:
                    self._parts = [self.text()]
                    self._length = len(self._parts[0])

    def text(self) -> str:
        return "".join(self._parts)[-self._kept :]


def _feed(stream: IO[bytes], text: str) -> None:
    try:
        with stream:
            stream.write(text.encode())
    except BrokenPipeError:
        # It ended without reading; its exit code has the cause.
        return


def _join(threads: Sequence[threading.Thread]) -> None:
    # A grandchild that inherited the pipe may hold it open for ever: what has
    # been read by then is enough.
    for thread in threads:
        thread.join(GRACE_SECONDS)
