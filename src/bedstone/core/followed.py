"""Run a program that may take hours, and kill it when it makes no progress.

A program that waits for a server which never answers has no time limit of its own that fits: a
first copy takes hours, a hanging one should not. So the limit is the time without progress.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import IO

_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.25
_KEPT_CHARACTERS = 64 * 1024 * 1024


@dataclass(frozen=True)
class Ended:
    """The end of a program: its exit code and its output."""

    returncode: int
    stdout: str
    stderr: str


class TooLongError(CommandError):
    """It took too long, or stood still for too long, and was ended."""


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    seconds: float | None = None,
    still_seconds: float | None = None,
    progress: Callable[[str], Hashable] | None = None,
    on_line: Callable[[str], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> Ended:
    """Run a program to its end, whatever its exit code.

    Args:
        argv: program and arguments; no shell is involved.
        env: variables added to this process's environment.
        cwd: working directory.
        seconds: after so many, it is ended.
        still_seconds: after so many without progress, it is ended.
        progress: returns the part of a line that changes with the program's progress (default: the
            line).
        on_line: gets each line of standard output, which then isn't kept.
        watch: called repeatedly while it runs; its exception stops the program.

    Raises:
        TooLongError: it was ended.
        CommandError: it can't be started.

    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            # With all that it has started: ssh, too.
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(
            f"{argv[0]!r} can't be started: {error}.", returncode=None, output=""
        ) from error
    pulse = _Pulse(progress or (lambda line: line))
    out, err = _Text(pulse, on_line), _Text(pulse)
    threads = [
        threading.Thread(target=text.read, args=(stream,), daemon=True)
        for text, stream in ((out, process.stdout), (err, process.stderr))
        if stream is not None
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds if seconds is not None else None
    try:
        while True:
            try:
                returncode = process.wait(_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                _judge(argv, pulse, deadline, still_seconds, out, err)
                if watch is not None:
                    watch()
    except BaseException:
        _end(process)
        raise
    for thread in threads:
        thread.join(_GRACE_SECONDS)
    return Ended(returncode, out.text(), err.text())


def _judge(
    argv: Sequence[str],
    pulse: _Pulse,
    deadline: float | None,
    still_seconds: float | None,
    out: _Text,
    err: _Text,
) -> None:
    now = time.monotonic()
    if deadline is not None and now > deadline:
        why = "took too long"
    elif still_seconds is not None and now - pulse.last > still_seconds:
        why = f"has not got on for {still_seconds:.0f} seconds"
    else:
        return
    raise TooLongError(
        f"`{argv[0]}` {why} and was ended.", returncode=None, output=f"{out.text()}\n{err.text()}"
    )


class _Pulse:
    """The time of the program's last progress."""

    def __init__(self, progress: Callable[[str], Hashable]) -> None:
        self.last = time.monotonic()
        self._progress = progress
        self._seen: Hashable = None

    def line(self, line: str) -> None:
        seen = self._progress(line)
        if seen != self._seen:
            self._seen = seen
            self.last = time.monotonic()


class _Text:
    """The text that came by a pipe."""

    def __init__(self, pulse: _Pulse, on_line: Callable[[str], None] | None = None) -> None:
        self._pulse = pulse
        self._on_line = on_line
        self._parts: list[str] = []
        self._length = 0

    def read(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace")
                self._pulse.line(line)
                if self._on_line is not None:
                    self._on_line(line)
                elif self._length < _KEPT_CHARACTERS:
                    self._parts.append(line)
                    self._length += len(line)

    def text(self) -> str:
        return "".join(self._parts)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
