"""Run hooks in parallel, each in a separate process group, and none beyond its time limit.

A socket's timeout counts from byte to byte, and a name may take minutes to
resolve: only the end of a process ends all of that for certain.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import bedstone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEPT_BYTES = 4000
_BLOCK = 65_536
# Reading stops after this much, should a process still write after the end.
_MOST_BLOCKS_AT_THE_END = 16
_REAP_SECONDS = 0.5


@dataclass(frozen=True)
class Task:
    """One hook's work.

    Attributes:
        hook: its name in messages.
        argv: what runs; it holds no secret, since every user sees it.
        document: what it reads as JSON from standard input.
        variables: its whole environment.
        seconds: its own limit.
        output_is_reason: what it prints is the reason of its failure, in our words.

    """

    hook: str
    argv: Sequence[str]
    document: Mapping[str, object] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    seconds: float
    output_is_reason: bool


@dataclass(frozen=True)
class Result:
    """The result of a hook: ``error`` is None or what it did ("answered 500"), to follow its name.

    ``output`` is the end of what a command printed, for the terminal alone.
    """

    hook: str
    error: str | None
    seconds: float
    output: str = ""


def own_program(module: str) -> tuple[str, ...]:
    """Return the command line that runs ``main()`` of a module of this program."""
    home = Path(bedstone.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from {module} import main; main()"
    return (sys.executable, "-I", "-c", code, str(home))


def run(tasks: Sequence[Task], limit_seconds: float) -> list[Result]:
    """Run all tasks at the same time and return how each one went, in their order.

    Args:
        tasks: the hooks.
        limit_seconds: what hasn't ended by then is killed, whatever its own limit.

    """
    # Killing and reaping take a moment, too.
    limit = max(limit_seconds - 2 * _REAP_SECONDS, limit_seconds / 2)
    children = [_Child(task, min(task.seconds, limit)) for task in tasks]
    try:
        with selectors.DefaultSelector() as selector:
            for child in children:
                child.start(selector)
            while any(child.result is None for child in children):
                soonest = min(child.deadline for child in children if child.result is None)
                for key, _ in selector.select(max(soonest - time.monotonic(), 0)):
                    key.data(selector)
                now = time.monotonic()
                for child in children:
                    if child.result is None and now >= child.deadline:
                        child.end(selector, late=True)
    finally:
        for child in children:
            child.close()
    return [child.result or Result(child.task.hook, "was ended", 0.0) for child in children]


class _Child:
    """The process of one task."""

    def __init__(self, task: Task, seconds: float) -> None:
        self.task = task
        self.result: Result | None = None
        self.started = time.monotonic()
        self.seconds = seconds
        self.deadline = self.started + seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._kept = b""

    def start(self, selector: selectors.BaseSelector) -> None:
        # In memory and without a pipe: a reader that stops reading blocks no process.
        given = os.memfd_create("event")
        try:
            os.write(given, json.dumps(self.task.document).encode())
            os.lseek(given, 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                self.task.argv,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(self.task.variables),
                cwd="/",
                start_new_session=True,
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            why = error.strerror or type(error).__name__
            self.result = Result(self.task.hook, f"can't be run: {why}", 0.0)
            return
        finally:
            os.close(given)
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)
            selector.register(self._process.stdout, selectors.EVENT_READ, self._read)
        selector.register(self._pidfd, selectors.EVENT_READ, self.end)

    def end(self, selector: selectors.BaseSelector, *, late: bool = False) -> None:
        """Kill what there is of the group still, and note how it went."""
        if self._process is None or self.result is not None:
            return
        selector.unregister(self._pidfd)
        # The leader isn't reaped yet: its number can't belong to another process.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)
        for _ in range(_MOST_BLOCKS_AT_THE_END):
            if not self._read(selector):
                break
        output = self._kept.decode("utf-8", "replace").strip()
        self.result = Result(
            self.task.hook,
            f"took longer than {self.seconds:.0f} s and was ended"
            if late
            else self._error(self._process.returncode, output),
            time.monotonic() - self.started,
            "" if self.task.output_is_reason else output,
        )

    def _error(self, code: int | None, output: str) -> str | None:
        if code == 0:
            return None
        if self.task.output_is_reason and output:
            return output.splitlines()[-1]
        if code is not None and code < 0:
            return f"was ended by signal {-code}"
        return f"failed with exit code {code}"

    def _read(self, selector: selectors.BaseSelector) -> bool:
        """Take what it has printed; return whether there may be more."""
        stream = self._process.stdout if self._process else None
        if stream is None or stream.closed:
            return False
        try:
            block = os.read(stream.fileno(), _BLOCK)
        except BlockingIOError:
            return False
        self._kept = (self._kept + block)[-_KEPT_BYTES:]
        if not block:
            selector.unregister(stream)
            stream.close()
        return bool(block)

    def close(self) -> None:
        if self._process is None:
            return
        if self.result is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
