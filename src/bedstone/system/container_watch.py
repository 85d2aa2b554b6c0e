"""Copy a container's output to the journal, stop it when asked, and return its exit code.

`bedstone supervise` replaces itself by this file once its container has started, so this code is
all that a service costs for as long as it runs: one poll loop, no thread, no `docker` command, and
no import of another module of bedstone or of a large one of Python (`re`, `json`, `typing`). See
"Containers without dockerd" in docs/decisions.md for the measurements.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import termios
import time

# typing.TYPE_CHECKING without the 1 MiB of typing; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

# How the lines begin that a release and the alarms look for.
KILLED = "Killed: it ran on for"
UNRESPONSIVE = "It doesn't answer any more"
# What doesn't answer isn't given the time that a long task may take.
_UNRESPONSIVE_STOP_SECONDS = 10.0
# Docker 25 and later have this version of the API.
_API = "/v1.44"
_CONTAINERS = "containers"
_RECONNECT_EVERY_SECONDS = 0.5
_ASK_AGAIN_SECONDS = 0.1
_ASK_CODE_SECONDS, _ASK_CODE_TIMES = 0.02, 10
_LAST_LINES_SECONDS = 5.0
# dockerd may be stopping: systemd starts it again only once this process has ended.
_REMOVE_SECONDS = 10.0
# The kernel ends what a container holds after SIGKILL; only a hanging disk takes longer.
_KILL_SECONDS = 20.0
# A pipe holds 64 KiB. What is below this is left for dockerd, so that a restart of a second
# splits no line between two readers.
_FULL_BYTES = 16 * 1024
_LOOK_EVERY_SECONDS = 0.05
_CHUNK_BYTES = 64 * 1024
_RECENT_LINES = 50
# Before each message of the log: its stream, three zeros, its length.
_FRAME_HEADER_BYTES = 8
_STDOUT = 1


def notify(*messages: str) -> None:
    """Tell systemd about this process's state (sd_notify(3)); nothing when it isn't asked for."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # systemd may be re-executing itself: no message is worth a container's life.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.connect(address)
            connection.sendall("\n".join(messages).encode())
        except OSError:
            return


def killed_words(stop_signal: str, seconds: float) -> str:
    """Return the journal's message on a container that had to be killed."""
    return (
        f"{KILLED} {seconds:g} s after {stop_signal}: requests and tasks in it were cut off. If it"
        " ends by another signal, declare it: `stop_signal: SIGINT` (uWSGI, which reloads at"
        " SIGTERM), `stop_signal: SIGQUIT`; if it needs longer: `stop_seconds`."
    )


def _host(path: str) -> str:
    return os.environ.get("BEDSTONE_ROOT", "").rstrip("/") + path


# --- dockerd -------------------------------------------------------------------------------


def dockerd_runs() -> bool:
    """Return whether dockerd runs."""
    if (daemon := _dockerd()) is None:
        return False
    os.close(daemon[1])
    return True


def _dockerd() -> tuple[int, int] | None:
    """Return dockerd's process id and a pidfd of it, None when it doesn't run."""
    try:
        with open(_host("/run/docker.pid"), encoding="ascii") as file:  # noqa: PTH123 - no pathlib
            pid = int(file.read())
        return pid, os.pidfd_open(pid)
    except (OSError, ValueError):
        return None


class _Request:
    """A request to dockerd; HTTP/1.0, so that the answer is plain bytes until its end."""

    def __init__(self, method: str, target: str, body: str = "") -> None:
        self._answer = b""
        self.status = 0
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.connection.settimeout(_REMOVE_SECONDS)
            self.connection.connect(_host("/run/docker.sock"))
            head = f"{method} {_API}/{target} HTTP/1.0\r\nHost: docker\r\n"
            if body:
                head += "Content-Type: application/json\r\n"
            head += f"Content-Length: {len(body.encode())}\r\n\r\n"
            self.connection.sendall((head + body).encode())
        except OSError:
            self.connection.close()
            raise

    def read(self) -> bytes | None:
        """Return the next bytes of the body, None at its end."""
        try:
            data = self.connection.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        if not data:
            return None
        if self.status:
            return data
        head, found, body = (self._answer + data).partition(b"\r\n\r\n")
        if not found:
            self._answer = head
            return b""
        self._answer = b""
        code = head.split(None, 2)[1]
        self.status = int(code) if code.isdigit() else 500
        return body

    def close(self) -> None:
        self.connection.close()


def remove(container: str) -> None:
    """Remove a container with its volumes that have no name, if dockerd is there.

    Without it the next start of the slot, or the release that ends it, does.
    """
    if not dockerd_runs():
        return
    try:
        request = _Request("DELETE", f"{_CONTAINERS}/{container}?force=1&v=1")
    except OSError:
        return
    while request.read() is not None:
        pass
    request.close()


# --- output --------------------------------------------------------------------------------


class Journal:
    """Standard output: gets whole lines, and keeps what it doesn't take at once."""

    def __init__(self) -> None:
        self.pending = b""
        self._recent: list[bytes] = []

    def write(self, lines: bytes) -> None:
        """Write lines, or keep them until :meth:`flush`."""
        self._recent += lines[-_CHUNK_BYTES:].splitlines()[-_RECENT_LINES:]
        del self._recent[:-_RECENT_LINES]
        self.pending += lines
        self.flush()

    def flush(self) -> None:
        """Write what is pending, as far as it is taken."""
        while self.pending:
            try:
                self.pending = self.pending[os.write(_STDOUT, self.pending) :]
            except BlockingIOError:
                return
            except OSError:
                # Its reader is gone; the container goes on.
                self.pending = b""

    def drain(self, seconds: float) -> None:
        """Write all that is pending, with a limit."""
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(_STDOUT, select.POLLOUT)
        while self.pending and (left := end - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self.flush()

    def recent(self) -> str:
        """Return the last lines that were written."""
        return b"\n".join(self._recent).decode("utf-8", "replace")


class Log:
    """A container's output as dockerd keeps it, each line once."""

    def __init__(self, container: str, journal: Journal, since: int = 0) -> None:
        self._container = container
        self._journal = journal
        # Nanoseconds since 1970: of the newest line, and of the newest before this connection.
        self._last = self._seen = since
        self._request: _Request | None = None
        self._received = b""
        # The beginning of a line longer than dockerd's 16 KiB, by stream.
        self._begun: dict[int, bytes] = {}

    @property
    def connection(self) -> socket.socket | None:
        """Return the connection that lines come by, if there is one."""
        return self._request.connection if self._request else None

    def connect(self) -> None:
        """Ask dockerd for what comes after the last line."""
        self._seen = self._last
        # dockerd sends a line again whose end didn't come.
        self._received = b""
        self._begun.clear()
        seconds, nanoseconds = divmod(self._last, 1_000_000_000)
        query = f"follow=1&stdout=1&stderr=1&timestamps=1&since={seconds}.{nanoseconds:09d}"
        try:
            self._request = _Request("GET", f"{_CONTAINERS}/{self._container}/logs?{query}")
        except OSError:
            self._request = None

    def read(self) -> bool:
        """Copy what has come; return whether more may come."""
        if self._request is None:
            return False
        data = self._request.read()
        if data is None or self._request.status not in {0, 200}:
            self._close()
            return False
        if lines := self._lines(data):
            self._journal.write(lines)
        return True

    def finish(self) -> None:
        """Write the beginning of a line that nothing follows, and close the connection."""
        for begun in self._begun.values():
            self._journal.write(begun + b"\n")
        self._close()

    def _close(self) -> None:
        if self._request is not None:
            self._request.close()
        self._request = None

    def _lines(self, data: bytes) -> bytes:
        received = self._received + data
        lines, place = [], 0
        while place + _FRAME_HEADER_BYTES <= len(received):
            begin = place + _FRAME_HEADER_BYTES
            end = begin + int.from_bytes(received[begin - 4 : begin], "big")
            if end > len(received):
                break
            lines.append(self._line(received[place], received[begin:end]))
            place = end
        self._received = received[place:]
        return b"".join(lines)

    def _line(self, stream: int, message: bytes) -> bytes:
        """Return the line that a message ends, without its time; empty when there is none."""
        stamp, _, text = message.partition(b" ")
        moment = moment_of(stamp)
        begun = self._begun.pop(stream, b"")
        # What has no time is dockerd's own complaint.
        if moment is None or (moment <= self._seen and not begun):
            return b""
        text = begun + text
        if not text.endswith(b"\n"):
            if len(text) < _CHUNK_BYTES:
                self._begun[stream] = text
                return b""
            text += b"\n"
        self._last = max(self._last, moment)
        return text


def moment_of(stamp: bytes) -> int | None:
    """Return nanoseconds since 1970 of a time as dockerd writes it, None if it isn't one.

    They are all of one form: 2026-11-29T15:28:34.246802139Z, or with +01:00 in place of the Z.
    """
    try:
        year, month, day = int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10])
        seconds = (int(stamp[11:13]) * 60 + int(stamp[14:16])) * 60 + int(stamp[17:19])
        fraction = int(stamp[20:29])
        if stamp[29:] != b"Z":
            offset = (int(stamp[30:32]) * 60 + int(stamp[33:35])) * 60
            seconds += offset if stamp[29:30] == b"-" else -offset
    except ValueError:
        return None
    # Days since 1970: a year begins in March here, so that a leap day is its last one.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)  # noqa: PLR2004
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day
    return ((days - 719_469) * 86_400 + seconds) * 1_000_000_000 + fraction


class Pipes:
    """The two pipes that the container's shim keeps open and dockerd reads.

    While dockerd is away they are full after 64 KiB, and the container blocks at its next line:
    then they are read here.
    """

    def __init__(self, container_id: str, journal: Journal) -> None:
        self._paths = pipes_of(container_id)
        self._journal = journal
        self._open: dict[str, _Pipe] = {}
        # A pidfd of dockerd while it reads them.
        self.reader: int | None = None

    def look(self) -> None:
        """Find out whether dockerd reads them, and if not, copy what has filled them."""
        self._forget_reader()
        daemon = _dockerd()
        if daemon is not None:
            if self._are_read_by(daemon[0]):
                self.reader = daemon[1]
                self._close()
                return
            os.close(daemon[1])
        self._read(_FULL_BYTES)

    def finish(self) -> None:
        """Copy what is left, if dockerd is away: no other reader comes for it."""
        if not dockerd_runs():
            self._read(1)
        self._close()
        self._forget_reader()

    def _forget_reader(self) -> None:
        if self.reader is not None:
            os.close(self.reader)
        self.reader = None

    def _are_read_by(self, pid: int) -> bool:
        """Return whether a process has all of the pipes open that are there."""
        wanted = {path for path in self._paths if os.path.exists(path)}  # noqa: PTH110 - no pathlib
        return not wanted or wanted <= _open_files(pid)

    def _read(self, least: int) -> None:
        for path in self._paths:
            if path not in self._open:
                try:
                    # Never waits for a writer; the container's shim is one.
                    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    continue
                self._open[path] = _Pipe(descriptor, self._journal)
            self._open[path].copy(least)

    def _close(self) -> None:
        for pipe in self._open.values():
            pipe.close()
        self._open.clear()


class _Pipe:
    """One pipe, and the beginning of a line that hasn't ended yet."""

    def __init__(self, descriptor: int, journal: Journal) -> None:
        self._descriptor = descriptor
        self._journal = journal
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
                self._journal.write(lines + newline)

    def close(self) -> None:
        if self._begun:
            self._journal.write(self._begun + b"\n")
        os.close(self._descriptor)

    def _held(self) -> int:
        held = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        return int.from_bytes(held, sys.byteorder)


def pipes_of(container_id: str) -> list[str]:
    """Return the pipes of a container's first process: Docker names them in one of two ways."""
    directory = _host(f"/run/docker/containerd/{container_id}")
    return [
        f"{directory}/{process}-{stream}"
        for process in (container_id, "init")
        for stream in ("stdout", "stderr")
    ]


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


# --- liveness ------------------------------------------------------------------------------


class HttpProbe:
    """One request of the liveness path.

    Its answer counts however late it comes: under load a request waits in the service's queue, and
    a new one would wait behind it.
    """

    def __init__(self, target: tuple[str, int], request: bytes, accepted: Sequence[int]) -> None:
        self._request = request
        self._accepted = accepted
        self._answer = b""
        self.connection: socket.socket | None = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        self.words = f"no answer from port {target[1]}"
        self.is_connecting, self._is_answered = True, False
        try:
            self.connection.connect(target)
        except BlockingIOError:
            return
        except OSError as error:
            self.words = f"port {target[1]}: {error.strerror}"
            self.close()

    def step(self) -> bool | None:
        """Go on once the connection is ready; return whether the answer is right, None as yet."""
        if self.connection is None:
            return None
        try:
            if self.is_connecting:
                self.connection.sendall(self._request)
                self.is_connecting = False
                return None
            data = self.connection.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            self.words, data = error.strerror or "no answer", b""
        if not data:
            self.close()
        return None if self._is_answered else self._judge(data)

    def _judge(self, data: bytes) -> bool | None:
        """Return whether the first line says that all is well; the rest is read and forgotten."""
        line, newline, _ = (self._answer + data).partition(b"\n")
        if data and not newline and len(line) < _CHUNK_BYTES:
            self._answer = line
            return None
        self._is_answered = True
        code = line.split(None, 2)[1:2]
        status = int(code[0]) if code and code[0].isdigit() else 0
        if line:
            self.words = f"it answered {status}" if status else "it answered no HTTP"
        return status // 100 == 2 or status in self._accepted  # noqa: PLR2004

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class CommandProbe:
    """One run of the liveness command, by dockerd: without it nothing is found out."""

    is_connecting = False

    def __init__(self, container: str, body: str) -> None:
        self.words = "its command hasn't ended"
        # Whether it runs: what dockerd doesn't start says nothing about the service.
        self.is_running = False
        self._id = ""
        self._body = b""
        self._asked_code = 0
        self._request: _Request | None = None
        self._ask("POST", f"{_CONTAINERS}/{container}/exec", body)

    @property
    def connection(self) -> socket.socket | None:
        """Return the connection to dockerd, if there is one."""
        return self._request.connection if self._request else None

    def step(self) -> bool | None:
        """Go on once dockerd answers; return whether the command succeeded, None as yet."""
        if self._request is None:
            return None
        data = self._request.read()
        self.is_running = self.is_running or (bool(self._id) and self._request.status == 200)  # noqa: PLR2004
        if data is not None:
            # Of its output nothing is needed.
            self._body = self._body[-_CHUNK_BYTES:] + data
            return None
        was_running, body, status = self.is_running, self._body, self._request.status
        self.close()
        if not self._id:
            self._id = body.partition(b'"Id":"')[2].partition(b'"')[0].decode("ascii", "replace")
            if status == 201 and self._id:  # noqa: PLR2004
                self._ask("POST", f"exec/{self._id}/start", '{"Detach":false,"Tty":false}')
            return None
        digits = body.partition(b'"ExitCode":')[2].replace(b"}", b",").partition(b",")[0].strip()
        if was_running and not digits.isdigit() and self._asked_code < _ASK_CODE_TIMES:
            # The output has ended; dockerd may need a moment until it knows the code.
            if self._asked_code:
                time.sleep(_ASK_CODE_SECONDS)
            self._asked_code += 1
            self._ask("GET", f"exec/{self._id}/json")
            return None
        self.is_running = False
        self.words = f"its command ended with exit code {digits.decode()}"
        return int(digits) == 0 if digits.isdigit() else None

    def _ask(self, method: str, target: str, body: str = "") -> None:
        self._body = b""
        try:
            self._request = _Request(method, target, body) if dockerd_runs() else None
        except OSError:
            self._request = None

    def close(self) -> None:
        """Close the connection; the command isn't ended by that."""
        if self._request is not None:
            self._request.close()
        self._request = None


class Liveness:
    """Asks a service again and again whether it still works.

    A single right answer, however late, ends a row of failures. Nothing is done about a row that is
    long enough while the app is in maintenance or an operation holds its lock.

    Attributes:
        every: seconds from one probe to the next.
        timeout: seconds after which a probe without an answer is a failure.
        words: of the last failure.

    """

    def __init__(
        self,
        probe: Callable[[], HttpProbe | CommandProbe],
        *,
        every: float,
        timeout: float,
        failures: int,
        paused_by: Sequence[str] = (),
    ) -> None:
        self._probe = probe
        self.every = every
        self.timeout = timeout
        self.words = ""
        self._most = failures
        self._paused_by = paused_by
        self._failed = 0
        # The newest is the last one; whether it has been counted.
        self._open: list[HttpProbe | CommandProbe] = []
        self._is_counted = True

    @property
    def failed(self) -> int:
        """Return the number of probes in a row that have failed."""
        return self._failed

    @property
    def probes(self) -> Sequence[HttpProbe | CommandProbe]:
        """Return the probes that have a connection."""
        return [probe for probe in self._open if probe.connection is not None]

    def ask(self) -> None:
        """Begin the next probe; a command that still runs is waited for instead."""
        self._open = [probe for probe in self._open if probe.connection is not None]
        self._is_counted = False
        if any(isinstance(probe, CommandProbe) for probe in self._open):
            return
        self._open.append(self._probe())

    def step(self, probe: HttpProbe | CommandProbe) -> None:
        """Go on with a probe whose connection is ready."""
        answer = probe.step()
        if answer:
            self._failed = 0
            self._is_counted = True
            for other in self._open:
                if other is not probe:
                    other.close()
        elif answer is False and probe is self._open[-1]:
            self._count(probe)

    def on_timeout(self) -> None:
        """Count the newest probe when it has no answer."""
        newest = self._open[-1]
        if not isinstance(newest, CommandProbe) or newest.is_running:
            self._count(newest)

    def _count(self, probe: HttpProbe | CommandProbe) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._failed += 1
            self.words = probe.words

    def is_over(self) -> bool:
        """Return whether the service is to be restarted now."""
        return self._failed >= self._most and not any(_holds(path) for path in self._paused_by)

    def close(self) -> None:
        """End all probes."""
        for probe in self._open:
            probe.close()
        self._open.clear()


def _holds(path: str) -> bool:
    """Return whether a page of maintenance is there, or a lock is held (see bedstone.core.lock)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not path.endswith(".lock"):
            return True
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


# --- the loop ------------------------------------------------------------------------------


class Prober:
    """The process that probes a new container; what it finds comes by a pipe, NUL after each.

    A message is for systemd; ``READY=1`` is among them once the container is healthy.
    ``FAILED`` and a text are for the journal: it won't get healthy.
    """

    FAILED = b"FAILED "
    READY = b"READY=1"

    def __init__(self, descriptor: int, pid: int) -> None:
        self.descriptor = descriptor
        self.failure: str | None = "It wasn't found out whether the service is healthy."
        self._pid = pid
        self._received = b""

    def read(self) -> bool:
        """Pass on what has come; return whether more may come."""
        data = os.read(self.descriptor, _CHUNK_BYTES)
        *messages, self._received = (self._received + data).split(b"\0")
        for message in messages:
            if message.startswith(self.FAILED):
                self.failure = message.removeprefix(self.FAILED).decode("utf-8", "replace")
                return False
            if message.startswith(self.READY):
                self.failure = None
            notify(message.decode("utf-8", "replace"))
        return bool(data)

    def close(self) -> None:
        """End the process, unless it has ended."""
        os.close(self.descriptor)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class Watch:
    """One container, until it has ended.

    Attributes:
        code: its exit code.
        was_asked: whether it ended because this process was asked to stop it.
        expired: whether it ended because its time was over.
        was_unresponsive: whether it is stopped because it doesn't answer any more.
        failure: why it was ended, or couldn't be, as text for the journal.
        journal: where its output goes.

    """

    def __init__(
        self,
        container: str,
        container_id: str,
        *,
        process: int | None,
        asked: int,
        stop_signal: tuple[int, str],
        stop_seconds: float,
        since: int = 0,
        limit_seconds: float | None = None,
        prober: Prober | None = None,
        liveness: Liveness | None = None,
        on_unresponsive: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare to watch a container.

        Args:
            container: its name.
            container_id: its id, which its pipes have in their names.
            process: a pidfd of its first process, None when that has ended.
            asked: a descriptor that can be read once the container shall be stopped.
            stop_signal: what asks it to end, as number and name.
            stop_seconds: how long it has for that before it is killed.
            since: output before this moment isn't copied; nanoseconds since 1970.
            limit_seconds: after this time it is stopped.
            prober: says when it is healthy.
            liveness: asks from then on whether it still is.
            on_unresponsive: called with the reason before it is stopped because it isn't.

        """
        self.code: int | None = None
        self.was_asked = self.expired = self.was_unresponsive = False
        self.failure: str | None = None
        self.journal = Journal()
        self._container = container
        self._process = process
        self._asked: int | None = asked
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._prober = prober
        self._liveness = liveness
        self._on_unresponsive = on_unresponsive
        self._log = Log(container, self.journal, since)
        self._pipes = Pipes(container_id, self.journal)
        self._exit: _Request | None = None
        self._body = b""
        self._stopping = self._log_has_ended = False
        # Moments (time.monotonic) at which something is due; what isn't in here isn't.
        self._due: dict[str, float] = {"pipes": 0.0, "log": 0.0}
        if limit_seconds is not None:
            self._due["limit"] = time.monotonic() + limit_seconds

    def run(self) -> int:
        """Watch until the container has ended and its output is copied; return its exit code.

        The container is removed then. The code is 0 when this process was asked to stop it.
        """
        if self._process is None:
            self._on_end()
        while self.code is None or "last lines" in self._due:
            self._step()
        # Its last lines first: they go with the container.
        self._pipes.finish()
        self._log.finish()
        self.journal.drain(_LAST_LINES_SECONDS)
        self._end_prober()
        if self._exit is not None:
            self._exit.close()
        remove(self._container)
        return self.code

    def _step(self) -> None:
        poll = select.poll()
        waiting = self._waiting()
        for descriptor in waiting:
            is_out = descriptor == _STDOUT or descriptor in self._connecting()
            poll.register(descriptor, select.POLLOUT if is_out else select.POLLIN)
        # No output is read while the journal takes none.
        held = {"pipes", "log"} if self.journal.pending else set()
        due = [moment for name, moment in self._due.items() if name not in held]
        left = max(min(due) - time.monotonic(), 0) * 1000 if due else None
        ready = {descriptor for descriptor, _ in poll.poll(left)}
        for descriptor, act in waiting.items():
            if descriptor in ready:
                act()
        now = time.monotonic()
        for name, moment in list(self._due.items()):
            if moment <= now and name not in held and name in self._due:
                del self._due[name]
                self._act(name)

    def _connecting(self) -> set[int]:
        """Return the sockets of probes that have not sent their request."""
        probes = self._liveness.probes if self._liveness else ()
        return {p.connection.fileno() for p in probes if p.connection and p.is_connecting}

    def _waiting(self) -> dict[int, Callable[[], None]]:
        """Return what is waited for, with what is done then; the container's end comes first."""
        found: dict[int, Callable[[], None]] = {}
        if self._process is not None:
            found[self._process] = self._on_end
        if self._asked is not None:
            found[self._asked] = self._on_asked
        if self._prober is not None:
            found[self._prober.descriptor] = self._on_probe
        if self._exit is not None:
            found[self._exit.connection.fileno()] = self._on_exit_code
        for probe in self._liveness.probes if self._liveness else ():
            if probe.connection is not None:
                found[probe.connection.fileno()] = _later(self._on_answer, probe)
        if self._pipes.reader is not None:
            found[self._pipes.reader] = self._look_at_pipes
        if self.journal.pending:
            found[_STDOUT] = self.journal.flush
        elif self._log.connection is not None:
            found[self._log.connection.fileno()] = self._on_log
        return found

    def _act(self, name: str) -> None:
        now = time.monotonic()
        if name == "pipes":
            self._look_at_pipes()
        elif name == "log":
            self._connect_log()
        elif name == "exit code":
            self._ask_exit_code()
        elif name in {"liveness", "liveness timeout"}:
            self._probe_liveness(name)
        elif name == "limit":
            self.expired = True
            self._stop()
        elif name == "kill":
            self._send(signal.SIGKILL)
            self._due["give up"] = now + _KILL_SECONDS
        elif name == "give up":
            self.failure = (
                f"The container {self._container} runs on although it was killed.\n"
                "hint: A process that waits for a disk ends when the disk answers: see `dmesg`."
            )
            self._end_with(1)

    # --- the container

    def _on_end(self) -> None:
        self._process = None
        self._end_liveness()
        killed = "give up" in self._due
        for name in ("limit", "kill", "give up"):
            self._due.pop(name, None)
        self._end_prober()
        if killed and not self.was_unresponsive:
            self.journal.write(
                f"{killed_words(self._stop_signal[1], self._stop_seconds)}\n".encode()
            )
        if self._stopping:
            self._end_with(1 if self.failure else 0)
        else:
            self._due["exit code"] = 0.0

    def _on_asked(self) -> None:
        self._asked = None
        if self.code is not None:
            return
        self.was_asked = True
        # Its limit is no failure any more.
        self._end_prober()
        notify("STOPPING=1", "STATUS=Letting the last requests finish")
        if self._process is None:
            # It ended by itself, and dockerd hasn't said yet how.
            self._due.pop("exit code", None)
            self._end_with(0)
        else:
            self._stop()

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._end_liveness()
            self._due["kill"] = time.monotonic() + self._stop_seconds
            self._send(self._stop_signal[0])

    def _send(self, number: int) -> None:
        if self._process is None:
            return
        try:
            signal.pidfd_send_signal(self._process, number)
        except ProcessLookupError:
            return

    def _end_with(self, code: int) -> None:
        if self.code is None:
            self.code = code
            if not self._log_has_ended:
                self._due["last lines"] = time.monotonic() + _LAST_LINES_SECONDS
                if self._log.connection is None:
                    self._due["log"] = 0.0

    def _on_probe(self) -> None:
        if self._prober is None or self._prober.read():
            return
        self.failure = self._prober.failure
        self._end_prober()
        if self.failure is not None:
            self._stop()
        elif self._liveness is not None and not self._stopping:
            self._due["liveness"] = time.monotonic() + self._liveness.every

    # --- liveness

    def _probe_liveness(self, name: str) -> None:
        if self._liveness is None:
            return
        if name == "liveness":
            now = time.monotonic()
            self._due["liveness"] = now + self._liveness.every
            self._due["liveness timeout"] = now + self._liveness.timeout
            self._liveness.ask()
        else:
            self._liveness.on_timeout()
        self._judge_liveness()

    def _on_answer(self, probe: HttpProbe | CommandProbe) -> None:
        if self._liveness is not None:
            self._liveness.step(probe)
            self._judge_liveness()

    def _judge_liveness(self) -> None:
        if self._liveness is None or self._process is None or not self._liveness.is_over():
            return
        words = (
            f"{UNRESPONSIVE} ({self._liveness.failed} liveness probes in a row failed:"
            f" {self._liveness.words})"
        )
        self.was_unresponsive = True
        self.failure = f"{words}; it is restarted."
        self._stop_seconds = min(self._stop_seconds, _UNRESPONSIVE_STOP_SECONDS)
        self._on_unresponsive(words)
        self._stop()

    def _end_liveness(self) -> None:
        for name in ("liveness", "liveness timeout"):
            self._due.pop(name, None)
        if self._liveness is not None:
            self._liveness.close()
            self._liveness = None

    def _end_prober(self) -> None:
        if self._prober is not None:
            self._prober.close()
            self._prober = None

    # --- dockerd

    def _ask_exit_code(self) -> None:
        self._body = b""
        if dockerd_runs():
            try:
                self._exit = _Request("POST", f"{_CONTAINERS}/{self._container}/wait")
            except OSError:
                self._exit = None
        if self._exit is None:
            notify("STATUS=The container has ended; Docker, which knows how, doesn't answer")
            self._due["exit code"] = time.monotonic() + _ASK_AGAIN_SECONDS

    def _on_exit_code(self) -> None:
        if self._exit is None:
            return
        data = self._exit.read()
        if data is not None:
            self._body += data
            return
        status = self._exit.status
        self._exit.close()
        self._exit = None
        # {"StatusCode":137}, maybe with more after it.
        digits = self._body.partition(b'"StatusCode":')[2].replace(b"}", b",").partition(b",")[0]
        if status == 404:  # noqa: PLR2004
            self._end_with(1)
        elif digits.strip().isdigit():
            self._end_with(int(digits))
        else:
            self._due["exit code"] = time.monotonic() + _ASK_AGAIN_SECONDS

    def _connect_log(self) -> None:
        if dockerd_runs():
            self._log.connect()
        elif self.code is not None:
            self._due.pop("last lines", None)
        if self._log.connection is None:
            self._due["log"] = time.monotonic() + _RECONNECT_EVERY_SECONDS

    def _on_log(self) -> None:
        if self._log.read():
            return
        if self._process is None and dockerd_runs():
            # The output's end, not dockerd's.
            self._log_has_ended = True
            self._due.pop("last lines", None)
        else:
            self._due["log"] = time.monotonic() + _RECONNECT_EVERY_SECONDS

    def _look_at_pipes(self) -> None:
        self._pipes.look()
        if self._pipes.reader is None:
            self._due["pipes"] = time.monotonic() + _LOOK_EVERY_SECONDS


def _later(act: Callable[..., None], argument: object) -> Callable[[], None]:
    """Return a call with an argument (functools.partial without functools)."""
    return lambda: act(argument)


# --- the program ---------------------------------------------------------------------------

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _liveness(options: Mapping[str, str]) -> Liveness | None:
    """Return what probes the service, as the arguments describe it."""
    body = options.get("liveness_command")
    request = options.get("liveness_request")
    if body:
        container = options["container"]

        def probe() -> HttpProbe | CommandProbe:
            return CommandProbe(container, body)

    elif request:
        target = (options["liveness_address"], int(options["liveness_port"]))
        accepted = [int(each) for each in options["liveness_accepted"].split()]

        def probe() -> HttpProbe | CommandProbe:
            return HttpProbe(target, request.encode(), accepted)

    else:
        return None
    return Liveness(
        probe,
        every=float(options["liveness_every"]),
        timeout=float(options["liveness_timeout"]),
        failures=int(options["liveness_failures"]),
        paused_by=options["liveness_paused_by"].split(":"),
    )


def _report(options: Mapping[str, str], words: str) -> None:
    """Record that the service is restarted, and begin the look that reports it."""
    try:
        with open(options["liveness_record"], "a", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib
            file.write(f"{time.time():.0f} {words}\n")
        # Its exit code isn't waited for: this process stops its container now.
        command = ["systemctl", "start", "--no-block", "bedstone-alarms.service"]
        os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        print(f"bedstone: this isn't reported: {error.strerror}.", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """Watch the container that the arguments (``NAME=VALUE``) describe; return its exit code."""
    options = dict(each.split("=", 1) for each in arguments)
    if program := options.get("program"):
        os.close(int(program))
    asked, ask = os.pipe()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        os.write(ask, b"x")

    for each in STOP_SIGNALS:
        signal.signal(each, on_signal)
    # The process that became this one has blocked them: one that came until now is delivered.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    watch = Watch(
        options["container"],
        options["id"],
        process=int(options["process"]) if options["process"] else None,
        asked=asked,
        stop_signal=(int(options["stop_signal"]), options["stop_signal_name"]),
        stop_seconds=float(options["stop_seconds"]),
        since=int(options["since"]),
        prober=Prober(int(options["prober"]), int(options["prober_pid"])),
        liveness=_liveness(options),
        on_unresponsive=lambda words: _report(options, words),
    )
    # A journal that takes nothing must not keep this process from stopping its container.
    os.set_blocking(_STDOUT, False)
    try:
        code = watch.run()
    finally:
        os.set_blocking(_STDOUT, True)
        os.close(asked)
        os.close(ask)
    if watch.failure is not None:
        print(f"bedstone: {watch.failure}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
