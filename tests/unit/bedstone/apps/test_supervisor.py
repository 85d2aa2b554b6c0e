"""What the units of the apps run, with Docker played by a fake."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.apps import config, environment, network, slots
from bedstone.apps import supervisor as supervise
from bedstone.apps.containers import for_service
from bedstone.apps.slots import Made, Slot
from bedstone.apps.supervisor import Supervisor
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, CommandError, ConfigError
from bedstone.system import container_output, http_check
from bedstone.system.container import LABEL_SPECIFICATION
from bedstone.system.container_output import Follower, Pipes
from bedstone.system.container_process import signal_number
from bedstone.system.docker import ContainerFacts
from tests.unit.fixtures.containers import Docker
from tests.unit.fixtures.server import APP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOT = Slot("web", "blue", "r1", Made("sha256:1", 1, 1), "172.20.0.129")
GONE = CommandError("Docker doesn't answer", returncode=1, output="")
# Plays `docker logs`: each call prints the next file.
DOCKER = """#!/bin/sh
echo "$*" >> "$FAKE/calls"
number=$(wc -l < "$FAKE/calls")
cat "$FAKE/logs$number" 2> /dev/null
[ -e "$FAKE/logs$((number + 1))" ] || sleep 5
"""


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def docker(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    kept = paths.release("shop", "r1")
    kept.mkdir(parents=True)
    (kept / "app.env").write_text(environment.dumps({"SECRET": "x"}))
    fake = root / "fake"
    fake.mkdir()
    (fake / "docker").write_text(DOCKER)
    (fake / "docker").chmod(stat.S_IRWXU)
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    monkeypatch.setattr(network, "ensure", lambda *_: "172.20.0.0/24")
    monkeypatch.setattr(container_output, "_LAST_LINES_SECONDS", 0.1)
    monkeypatch.setattr(container_output, "_RECONNECT_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(supervise, "_ASK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(supervise, "dockerd_runs", lambda: True)
    monkeypatch.setattr(supervise, "_FIRST_PAUSE_SECONDS", 0.01)
    made = Docker()
    yield made
    made.kill()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The messages to systemd; filled when the test looks, by `listen`."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setattr(supervise, "notify", Notify(server))
        yield []


class Notify:
    """Sends with the real function, and remembers what came out of the socket."""

    messages: list[str]

    def __init__(self, server: socket.socket) -> None:
        Notify.messages = []
        self._server = server

    def __call__(self, *messages: str) -> None:
        from bedstone.system.systemd import notify

        notify(*messages)
        Notify.messages += self._server.recv(4096).decode().splitlines()


def supervisor(docker: Docker, **service: Any) -> Supervisor:
    services = APP["services"] | {"web": APP["services"]["web"] | service}
    app = config.parse(APP | {"services": services})
    return Supervisor(app, app.services["web"], SLOT, docker)  # type: ignore[arg-type]


def answers(monkeypatch: pytest.MonkeyPatch, *oks: bool) -> list[tuple[Any, ...]]:
    left = list(oks)
    asked: list[tuple[Any, ...]] = []

    def service(*arguments: Any, **_: Any) -> http_check.Answer:
        asked.append(arguments)
        ok = left.pop(0) if len(left) > 1 else left[0]
        return http_check.Answer(ok, f"GET answered {200 if ok else 503}")

    monkeypatch.setattr(http_check, "service", service)
    return asked


def test_ready_is_said_only_once_it_is_healthy(
    docker: Docker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del told
    asked = answers(monkeypatch, False, False, True)
    monkeypatch.setattr(Supervisor, "_probe", patched_probe(Supervisor._probe, docker.end, 3))
    assert supervisor(docker).run() == 7
    assert asked[0] == ("172.20.0.129", 8000, "/health/", "shop.example.com")
    assert [m for m in Notify.messages if not m.startswith("STATUS=Waiting")] == [
        "READY=1",
        "STATUS=Serving release r1",
    ]
    assert [container.name for container in docker.started] == ["bedstone-shop-web-blue"]
    assert docker.removed == ["bedstone-shop-web-blue"]


def patched_probe(original: Any, then: Any, times: int) -> Any:
    """Return the probe, with something that happens after so many calls."""
    calls = []

    def _probe(self: Supervisor, seconds: float) -> http_check.Answer:
        calls.append(seconds)
        answer: http_check.Answer = original(self, seconds)
        if len(calls) == times:
            then()
        return answer

    return _probe


def test_container_that_ends_at_once_is_never_ready(
    docker: Docker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del told
    answers(monkeypatch, False)
    docker.program = "exit 1"
    assert supervisor(docker).run() == 1
    assert "READY=1" not in Notify.messages


def test_never_healthy_is_stopped_with_the_last_answer(
    docker: Docker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del told
    answers(monkeypatch, False)
    with pytest.raises(BedstoneError, match="within 1 seconds: GET answered 503"):
        supervisor(docker, health_timeout_seconds=1, stop_seconds=9).run()
    assert docker.process is not None
    assert docker.process.returncode == 0, "it was asked, not killed"
    assert docker.removed == ["bedstone-shop-web-blue"]


def test_stop_of_the_unit_stops_the_container_warm(
    docker: Docker,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del told
    answers(monkeypatch, True)
    docker.stop_signal = "SIGQUIT"
    running = supervisor(docker, stop_seconds=12)
    running.events.put("stop")
    assert running.run() == 0
    assert docker.process is not None
    assert docker.process.returncode == 3, "it got its own signal"
    assert "STOPPING=1" in Notify.messages
    assert "Killed" not in capfd.readouterr().out


def test_container_that_ignores_its_signal_is_killed_and_the_setting_named(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, True)
    docker.program = "trap '' TERM; echo ready; read code; exit 0"
    running = supervisor(docker, stop_seconds=1)
    running.events.put("stop")
    assert running.run() == 0
    assert docker.process is not None
    assert docker.process.returncode == -signal.SIGKILL
    said = capfd.readouterr().out
    assert "Killed: it ran on for 1 s after SIGTERM" in said
    assert "`stop_signal: SIGINT` (uWSGI" in said


def test_stop_needs_no_dockerd(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, True)
    running = supervisor(docker)
    monkeypatch.setattr(supervise, "dockerd_runs", lambda: False)
    docker.after = [GONE] * 1000
    running.events.put("stop")
    assert running.run() == 0
    assert docker.process is not None
    assert docker.process.wait(10) == 0
    assert docker.removed == [], "the next start of the slot removes it"


def test_container_that_ended_while_dockerd_was_away_is_noticed(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, True)
    docker.program = "exit 9"
    docker.after = [GONE, GONE]
    assert supervisor(docker).run() == 9
    assert docker.removed == ["bedstone-shop-web-blue"]


@pytest.mark.parametrize("same", [True, False])
def test_running_container_is_taken_over_if_it_is_the_same(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    answers(monkeypatch, True)
    running = supervisor(docker)
    wanted = for_service(running.app, running.service, SLOT, {"SECRET": "x"})
    labels = {LABEL_SPECIFICATION: wanted.specification() if same else "other"}
    docker.looks = [ContainerFacts(wanted.name, running=True, exit_code=0, labels=labels)]
    docker.program = "exit 0"
    running.run()
    assert len(docker.started) == (0 if same else 1)


def test_service_without_health_path_is_healthy_when_its_port_is(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def port(address: str, number: int) -> http_check.Answer:
        asked.append((address, number))
        return http_check.Answer(ok=True, said="")

    monkeypatch.setattr(http_check, "port", port)
    docker.program = "exit 0"
    supervisor(docker, health=None).run()
    assert asked[0] == ("172.20.0.129", 8000)


def test_worker_is_healthy_when_it_stays_up(docker: Docker) -> None:
    app = config.parse(APP)
    slot = Slot("worker", "1", "r1", SLOT.made)
    worker = Supervisor(app, app.services["worker"], slot, docker)  # type: ignore[arg-type]
    assert not worker._probe(supervise.STABLE_SECONDS - 1).ok
    assert worker._probe(supervise.STABLE_SECONDS).ok


def test_unused_slot_is_told(root: Path) -> None:
    del root
    with pytest.raises(ConfigError, match="No release of shop runs in the slot web@green"):
        supervise.supervise("shop", "web", "green")


def test_unknown_service_is_told(docker: Docker) -> None:
    del docker
    slots.write("shop", Slot("nothing", "1", "r1", SLOT.made))
    paths.release("shop", "r1").joinpath("app.json").write_text(json.dumps(APP), encoding="utf-8")
    with pytest.raises(BedstoneError, match="has no service 'nothing'"):
        supervise.supervise("shop", "nothing", "1")


def test_each_line_is_copied_once_over_a_reconnect(
    docker: Docker, root: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    del docker
    lines = [
        b"2026-01-01T00:00:01.000000000Z one\n",
        b"2026-01-01T00:00:03.000000000Z three\n",
        # The other stream's lines may come a little late.
        b"2026-01-01T00:00:02.000000000Z two\n",
    ]
    again = b"2026-01-01T00:00:04.000000000Z four, \xff\n"
    (root / "fake/logs1").write_bytes(b"".join(lines) + b"error from daemon in stream: EOF\n")
    (root / "fake/logs2").write_bytes(lines[1] + again)
    follower = Follower("x")
    follower.start()
    seen = b""
    for _ in range(200):
        seen += capfdbinary.readouterr().out
        if b"four" in seen:
            break
        follower.join(0.05)
    follower.finish()
    assert seen == b"one\nthree\ntwo\nfour, \xff\n"
    assert "--since 2026-01-01T00:00:03.000000000Z x" in (root / "fake/calls").read_text()


ID = "0123abcd"


@pytest.fixture
def pipe(root: Path) -> Iterator[int]:
    """What a container writes to; its shim keeps both ends open."""
    directory = root / "run/docker/containerd" / ID
    directory.mkdir(parents=True)
    os.mkfifo(directory / "init-stdout")
    descriptor = os.open(directory / "init-stdout", os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def test_output_is_read_while_dockerd_is_away(
    pipe: int, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pipes = Pipes(ID)
    pipes.start()
    line, seen, written = b"x" * 999 + b"\n", b"", 0
    # Many times what a pipe holds.
    for _ in range(1000):
        try:
            written += os.write(pipe, line)
        except BlockingIOError:
            pipes.join(0.02)
        seen += capfdbinary.readouterr().out
    os.write(pipe, b"no line break at the end")
    pipes.finish()
    seen += capfdbinary.readouterr().out
    assert written > 10 * 64 * 1024
    assert seen == line * (written // len(line)) + b"no line break at the end\n"


def test_output_is_left_to_dockerd_while_it_reads(
    pipe: int, root: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with subprocess.Popen(["sleep", "60"], stdin=pipe) as dockerd:
        (root / "run/docker.pid").write_text(str(dockerd.pid))
        pipes = Pipes(ID)
        pipes.start()
        lines = b"line\n" * 8000
        os.write(pipe, lines)
        pipes.join(0.2)
        assert capfdbinary.readouterr().out == b""
        dockerd.kill()
        dockerd.wait()
        seen = b""
        for _ in range(500):
            seen += capfdbinary.readouterr().out
            if seen:
                break
            pipes.join(0.01)
        pipes.finish()
        seen += capfdbinary.readouterr().out
    assert seen == lines


@pytest.mark.parametrize(
    ("name", "number"), [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37)]
)
def test_signals_are_known_as_docker_writes_them(name: str, number: int) -> None:
    assert signal_number(name) == number


def test_unknown_signal_is_told() -> None:
    with pytest.raises(BedstoneError, match="'SIGSTOPP' is no signal"):
        signal_number("SIGSTOPP")
