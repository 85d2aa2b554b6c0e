"""The liveness probes of a running container: what ends it, and what doesn't."""

from __future__ import annotations

import http.server
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bedstone.core import lock
from bedstone.system import container_watch, http_check
from bedstone.system.container_watch import CommandProbe, HttpProbe, Liveness, Watch
from tests.unit.fixtures.containers import Docker
from tests.unit.fixtures.engine import Engine, engine

EVERY, TIMEOUT, FAILURES = 0.06, 0.03, 3
LIMIT_SECONDS = 30.0


class Service(http.server.ThreadingHTTPServer):
    """Answers with a status after a delay; None: never."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.status = 200
        self.delay: float | None = 0.0
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers['Host']}")
        time.sleep(60 if self.server.delay is None else self.server.delay)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The server's root; a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        monkeypatch.setenv("BEDSTONE_ROOT", directory)
        monkeypatch.setattr(container_watch, "_LAST_LINES_SECONDS", 0.1)
        yield Path(directory)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


class Watched:
    """A container that is watched in a thread."""

    def __init__(self, probe: Callable[[], HttpProbe | CommandProbe], paused_by: str) -> None:
        self.reports: list[str] = []
        self.container = subprocess.Popen(["sleep", "60"])
        asked, self._ask = os.pipe()
        ready, says = os.pipe()
        self.prober = subprocess.Popen(["sleep", "60"])
        os.write(says, b"READY=1\0")
        os.close(says)
        self.watch = Watch(
            "shop",
            "0" * 64,
            process=os.pidfd_open(self.container.pid),
            asked=asked,
            stop_signal=(signal.SIGTERM, "SIGTERM"),
            stop_seconds=300,
            prober=container_watch.Prober(ready, self.prober.pid),
            liveness=Liveness(
                probe, every=EVERY, timeout=TIMEOUT, failures=FAILURES, paused_by=[paused_by]
            ),
            on_unresponsive=self.reports.append,
        )
        self.thread = threading.Thread(target=self.watch.run, daemon=True)
        self.thread.start()

    def ended(self) -> bool:
        self.thread.join(LIMIT_SECONDS)
        return not self.thread.is_alive()

    def stop(self) -> None:
        os.write(self._ask, b"x")
        self.thread.join(LIMIT_SECONDS)
        self.container.kill()
        self.container.wait()
        # The watch has waited for it.
        self.prober.wait()


@contextmanager
def watched(
    probe: Callable[[], HttpProbe | CommandProbe], paused_by: object = "/nowhere"
) -> Iterator[Watched]:
    made = Watched(probe, str(paused_by))
    try:
        yield made
    finally:
        made.stop()


def asking(service: Service) -> Callable[[], HttpProbe]:
    host, port = service.server_address[:2]
    request = http_check.request("/live", "shop.example.com").encode()
    return lambda: HttpProbe((str(host), int(port)), request, [418])


def answer(probe: HttpProbe | CommandProbe) -> bool | None:
    """Go on with a probe until it knows its answer, or has no connection any more."""
    end = time.monotonic() + LIMIT_SECONDS
    while probe.connection is not None and time.monotonic() < end:
        wanted = [probe.connection]
        reading, writing = ([], wanted) if probe.is_connecting else (wanted, [])
        select.select(reading, writing, [], 1)
        if (found := probe.step()) is not None:
            return found
    return None


def liveness(*probes: Any, paused_by: object = "/nowhere") -> Liveness:
    left = list(probes)
    return Liveness(
        lambda: left.pop(0), every=10, timeout=5, failures=FAILURES, paused_by=[str(paused_by)]
    )


class Probe:
    """A request that a test answers."""

    words = "no answer"
    is_connecting = False

    def __init__(self) -> None:
        self.connection: object | None = object()
        self.answer: bool | None = None

    def step(self) -> bool | None:
        return self.answer

    def close(self) -> None:
        self.connection = None


def unanswered(found: Liveness, times: int) -> None:
    for _ in range(times):
        found.ask()
        found.on_timeout()


@pytest.mark.parametrize(("status", "right"), [(204, True), (418, True), (302, False)])
def test_answer_is_right_by_its_status(service: Service, status: int, *, right: bool) -> None:
    service.status = status
    probe = asking(service)()
    assert answer(probe) is right
    assert service.asked == ["/live shop.example.com"]
    assert answer(probe) is None
    assert probe.connection is None, "its rest is read to the end"


def test_what_is_no_answer_is_named(service: Service) -> None:
    service.status = 500
    probe = asking(service)()
    assert answer(probe) is False
    assert probe.words == "it answered 500"
    probe.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = server.getsockname()
        probe = HttpProbe(target, b"GET / HTTP/1.1\r\n\r\n", ())
        probe.step()
        connection, _ = server.accept()
        connection.close()
        assert answer(probe) is False
    probe = HttpProbe(target, b"GET / HTTP/1.1\r\n\r\n", ())
    assert not answer(probe)
    assert "refused" in probe.words
    probe.close()


def test_row_of_failures_is_ended_by_a_late_answer() -> None:
    """Under load a request waits in the queue: it comes late, but it comes."""
    first, *others = [Probe() for _ in range(2 * FAILURES)]
    found = liveness(first, *others)
    unanswered(found, FAILURES - 1)
    assert found.failed == FAILURES - 1
    first.answer = True
    found.step(first)  # type: ignore[arg-type]
    assert found.failed == 0
    assert others[0].connection is None, "what waits behind it is forgotten"
    unanswered(found, FAILURES - 1)
    assert not found.is_over()
    unanswered(found, 1)
    assert found.is_over()


def test_wrong_answer_counts_once() -> None:
    probe = Probe()
    found = liveness(probe)
    found.ask()
    probe.answer = False
    found.step(probe)  # type: ignore[arg-type]
    found.on_timeout()
    assert (found.failed, found.words) == (1, "no answer")


def test_maintenance_and_operations_pause_it(root: Path) -> None:
    page, file = root / "shop.html", lock.path("shop")
    for paused_by in (page, file):
        found = liveness(*(Probe() for _ in range(FAILURES)), paused_by=paused_by)
        unanswered(found, FAILURES)
        assert found.is_over(), "nothing pauses it"
        page.touch()
        with lock.held("shop", "bedstone release shop"):
            assert not found.is_over()
        page.unlink()
        assert found.is_over(), "the file of a former holder holds nothing"


def test_service_that_hangs_is_stopped_with_the_reason(root: Path, service: Service) -> None:
    del root
    with watched(asking(service)) as made:
        while not service.asked:
            time.sleep(0.01)
        assert made.reports == []
        service.delay = None
        assert made.ended()
        assert made.container.wait() == -signal.SIGTERM
    assert made.watch.code == 1
    (report,) = made.reports
    assert report.startswith("It doesn't answer any more (3 liveness probes in a row failed: no")
    assert made.watch.failure == f"{report}; it is restarted."
    assert made.watch.was_unresponsive
    assert not made.watch.was_asked


def test_container_that_ignores_its_signal_is_killed_soon(
    root: Path,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del root
    monkeypatch.setattr(container_watch, "_UNRESPONSIVE_STOP_SECONDS", 0.2)
    service.delay = None
    with watched(asking(service)) as made:
        os.kill(made.container.pid, signal.SIGSTOP)
        assert made.ended(), "its own `stop_seconds` are 300"
        assert made.container.wait() == -signal.SIGKILL
    # No hint on `stop_signal`: it wouldn't have answered to any.
    assert container_watch.KILLED not in capfd.readouterr().out


# --- commands


@pytest.fixture
def dockerd(root: Path) -> Iterator[Engine]:
    docker = Docker()
    docker.process = subprocess.Popen(["sleep", "60"])
    with engine(root, docker) as made:
        yield made
    docker.process.kill()
    docker.process.wait()


def running() -> CommandProbe:
    return CommandProbe("shop", '{"Cmd":["celery","inspect","ping"]}')


@pytest.mark.parametrize(("code", "right"), [(0, True), (69, False)])
def test_command_is_judged_by_its_exit_code(dockerd: Engine, code: int, *, right: bool) -> None:
    dockerd.exec_code = code
    probe = running()
    assert answer(probe) is right
    assert probe.words == f"its command ended with exit code {code}"
    assert probe.connection is None
    assert dockerd.commands == [["celery", "inspect", "ping"]]


def test_command_that_hangs_counts_and_runs_once(dockerd: Engine) -> None:
    dockerd.exec_code = None
    with watched(running) as made:
        assert made.ended()
    assert "failed: its command hasn't ended)" in made.reports[0]
    assert len(dockerd.commands) == 1


def test_absence_of_docker_says_nothing_about_the_service(root: Path) -> None:
    del root
    found = liveness(*(running() for _ in range(FAILURES)))
    unanswered(found, FAILURES)
    assert found.failed == 0


def test_command_that_docker_does_not_start_says_nothing(dockerd: Engine) -> None:
    dockerd.refuses = True
    probe = running()
    assert answer(probe) is None
    found = liveness(probe)
    unanswered(found, 1)
    assert found.failed == 0
