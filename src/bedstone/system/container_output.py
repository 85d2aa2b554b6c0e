"""Copy a container's output line by line to standard output, which is the journal.

dockerd reads it from two pipes that the container's shim keeps open, and keeps it for `docker
logs`. While dockerd is away these pipes are full after 64 KiB, and the container blocks at its
next line: then this process reads them itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import threading
from collections import deque
from typing import TYPE_CHECKING

from bedstone.core import paths

if TYPE_CHECKING:
    from pathlib import Path

_RECONNECT_EVERY_SECONDS = 0.5
_LAST_LINES_SECONDS = 5.0
_TIMESTAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)) (.*)$", re.DOTALL)
# A pipe holds 64 KiB. What is below this is left for dockerd, so that a restart of a second
# splits no line between two readers.
_FULL_BYTES = 16 * 1024
_LOOK_EVERY_SECONDS = 0.05
_CHUNK_BYTES = 64 * 1024
_LOCK = threading.Lock()
# The end of what this process's container printed.
_RECENT: deque[bytes] = deque(maxlen=50)


def recent() -> str:
    """Return the last lines that were written."""
    with _LOCK:
        return b"\n".join(_RECENT).decode("utf-8", "replace")


def write(data: bytes) -> None:
    """Write whole lines to standard output."""
    with _LOCK:
        _RECENT.extend(data.splitlines())
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class Follower(threading.Thread):
    """Copies what `docker logs` shows of a container, each line once."""

    def __init__(self, name: str, since: bytes = b"") -> None:
        super().__init__(daemon=True)
        self._container = name
        self._last = since
        self._finishing = threading.Event()

    def run(self) -> None:
        """Follow until stopped, and repeat it when dockerd restarts."""
        while True:
            self._follow()
            if self._finishing.wait(_RECONNECT_EVERY_SECONDS):
                return

    def finish(self) -> None:
        """Wait for the last lines, with a limit."""
        self._finishing.set()
        self.join(_LAST_LINES_SECONDS)

    def _follow(self) -> None:
        argv = ["docker", "logs", "--follow", "--timestamps"]
        seen = self._last
        if seen:
            argv += ["--since", seen.decode("ascii")]
        with subprocess.Popen(
            [*argv, self._container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            if process.stdout is None:
                return
            for line in process.stdout:
                found = _TIMESTAMP.match(line)
                # What has no time is docker's own complaint that dockerd went away.
                if found is not None and found[1] > seen:
                    self._last = max(self._last, found[1])
                    write(found[2])


class Pipes(threading.Thread):
    """Reads a container's pipes while dockerd doesn't, and copies them."""

    def __init__(self, container_id: str) -> None:
        super().__init__(daemon=True)
        self._paths = pipes_of(container_id)
        self._finishing, self._finish = os.pipe()
        self._open: dict[Path, _Pipe] = {}

    def run(self) -> None:
        """Read whenever dockerd doesn't, until stopped."""
        while True:
            daemon = _dockerd()
            try:
                if daemon is not None and self._are_read_by(daemon[0]):
                    self._close()
                    finishing = self._wait(None, daemon[1])
                else:
                    finishing = self._wait(_LOOK_EVERY_SECONDS)
                    self._read(_FULL_BYTES)
            finally:
                if daemon is not None:
                    os.close(daemon[1])
            if finishing:
                if not dockerd_runs():
                    # The container has ended: no other reader comes for the rest.
                    self._read(1)
                self._close()
                return

    def finish(self) -> None:
        """Read what is left, if dockerd is away, and end."""
        os.write(self._finish, b"x")
        self.join(_LAST_LINES_SECONDS)

    def _wait(self, seconds: float | None, descriptor: int | None = None) -> bool:
        """Wait until stopped, or until a process ends; return whether to finish."""
        poll = select.poll()
        poll.register(self._finishing, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        return any(number == self._finishing for number, _ in ready)

    def _are_read_by(self, pid: int) -> bool:
        """Return whether a process has all of the pipes open that are there."""
        wanted = {str(path) for path in self._paths if path.exists()}
        return wanted <= _open_files(pid)

    def _read(self, least: int) -> None:
        for path in self._paths:
            if path not in self._open:
                try:
                    # Never waits for a writer; the container's shim is one.
                    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    continue
                self._open[path] = _Pipe(descriptor)
            self._open[path].copy(least)

    def _close(self) -> None:
        for pipe in self._open.values():
            pipe.close()
        self._open.clear()


class _Pipe:
    """One pipe, and the beginning of a line that hasn't ended yet."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begun = b""

    def copy(self, least: int) -> None:
        """Copy what the pipe holds, if it is ``least`` bytes."""
        if self._held() < least:
            return
        while self._held():
            data = self._begun + os.read(self._descriptor, _CHUNK_BYTES)
            lines, newline, self._begun = data.rpartition(b"\n")
            if len(self._begun) > _CHUNK_BYTES:
                lines, newline, self._begun = data, b"\n", b""
            if newline:
                write(lines + newline)

    def close(self) -> None:
        if self._begun:
            write(self._begun + b"\n")
        os.close(self._descriptor)

    def _held(self) -> int:
        held = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        return int(struct.unpack("i", held)[0])


def pipes_of(container_id: str) -> list[Path]:
    """Return the pipes of a container's first process: Docker names them in one of two ways."""
    directory = paths.host("/run/docker/containerd") / container_id
    return [
        directory / f"{process}-{stream}"
        for process in (container_id, "init")
        for stream in ("stdout", "stderr")
    ]


def dockerd_runs() -> bool:
    """Return whether dockerd runs."""
    if (daemon := _dockerd()) is None:
        return False
    os.close(daemon[1])
    return True


def _dockerd() -> tuple[int, int] | None:
    """Return dockerd's process id and a pidfd of it, None when it doesn't run."""
    try:
        pid = int(paths.host("/run/docker.pid").read_text(encoding="ascii"))
        return pid, os.pidfd_open(pid)
    except (OSError, ValueError):
        return None


def _open_files(pid: int) -> set[str]:
    found: set[str] = set()
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)  # noqa: PTH208 - called twenty times a second
    except OSError:
        return found
    for name in names:
        try:
            found.add(os.readlink(f"{directory}/{name}"))  # noqa: PTH115
        except OSError:
            continue
    return found
