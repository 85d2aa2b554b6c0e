"""Run other programs: argument lists only, bounded output, never longer than a limit.

Secrets go by file, standard input or environment, never in ``argv``: every
user of the server can read another process's arguments.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from bedstone.core import reason
from bedstone.core.errors import CommandError, masked, printable

KEPT_CHARACTERS = 1_000_000
ERROR_LINES = 25
GRACE_SECONDS = 10.0


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
    check: bool = True,
    input_text: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program and return what it left behind.

    Args:
        argv: program and arguments; no shell is involved.
        timeout: seconds after which it is ended (SIGTERM, ten seconds later SIGKILL).
        check: raise when the exit code isn't 0.
        input_text: what it reads from standard input (nothing by default).
        env: variables added to this process's environment.
        cwd: working directory.
        stdin: an open file to read from, in place of ``input_text``.
        stdout: an open file that gets its standard output, in place of keeping it.
        on_line: called with every line of output as it comes (from two threads).

    Only the last million characters of each stream are kept.

    Raises:
        CommandError: not found, failed (with ``check``), or out of time.

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

    kept_out, kept_err = _Kept(on_line), _Kept(on_line)
    threads = [
        threading.Thread(target=kept.read, args=(stream,), daemon=True)
        for kept, stream in ((kept_out, process.stdout), (kept_err, process.stderr))
        if stream is not None
    ]
    if input_text is not None and process.stdin is not None:
        threads.append(
            threading.Thread(target=_feed, args=(process.stdin, input_text), daemon=True)
        )
    for thread in threads:
        thread.start()
    try:
        returncode = process.wait(timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        _join(threads)
        raise CommandError(
            f"`{shown}` took longer than {timeout:g} seconds and was ended.",
            returncode=None,
            output=tail(f"{kept_out.text()}\n{kept_err.text()}"),
        ) from None
    except BaseException:
        _end(process)
        raise
    _join(threads)
    done = Completed(
        tuple(arguments),
        returncode,
        kept_out.text(),
        kept_err.text(),
        time.monotonic() - started,
    )
    if check and returncode != 0:
        raise CommandError(
            f"`{shown}` failed with exit code {returncode}.",
            returncode=returncode,
            output=tail(done.output),
        )
    return done


def tail(text: str, lines: int = ERROR_LINES) -> str:
    """Return the last lines of a text that aren't empty; see :func:`bedstone.core.reason.tail`."""
    return reason.tail(text, lines)


class _Kept:
    """The end of a stream."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._parts: list[str] = []
        self._length = 0

    def read(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in iter(lambda: stream.readline(65_536), b""):
                line = raw.decode("utf-8", "replace")
                if self._on_line is not None:
                    self._on_line(printable(masked(line.rstrip("\r\n"))))
                self._parts.append(line)
                self._length += len(line)
                if self._length > 2 * KEPT_CHARACTERS:
                    self._parts = [self.text()]
                    self._length = len(self._parts[0])

    def text(self) -> str:
        return "".join(self._parts)[-KEPT_CHARACTERS:]


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


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return
