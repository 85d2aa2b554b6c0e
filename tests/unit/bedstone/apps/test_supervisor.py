"""What the units of the apps run, with Docker played by a fake."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import marshal
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bedstone.apps import config, environment, liveness, network, slots, supervisor
from bedstone.apps.containers import for_service
from bedstone.apps.slots import Made, Slot
from bedstone.apps.supervisor import Supervisor
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.system import container_watch, http_check
from bedstone.system.container import LABEL_SPECIFICATION
from bedstone.system.container_process import signal_number
from bedstone.system.container_watch import Journal, Pipes, Watch, moment_of
from bedstone.system.docker import ContainerFacts
from tests.unit.fixtures.containers import Docker
from tests.unit.fixtures.engine import Engine, engine, frame
from tests.unit.fixtures.server import APP

SLOT = Slot("web", "blue", "r1", Made("sha256:1", 1, 1), "172.20.0.129")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that stands for the server's root; a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        monkeypatch.setenv("BEDSTONE_ROOT", directory)
        yield Path(directory)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def docker(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    del root
    kept = paths.release("shop", "r1")
    kept.mkdir(parents=True)
    (kept / "app.env").write_text(environment.dumps({"SECRET": "x"}))
    monkeypatch.setattr(network, "ensure", lambda *_: "172.20.0.0/24")
    monkeypatch.setattr(container_watch, "_RECONNECT_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(container_watch, "_ASK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_SECONDS", 0.01)
    # The same, in this process.
    monkeypatch.setattr(supervisor, "_become", lambda _, words, __: container_watch.main(words))
    made = Docker()
    yield made
    made.kill()


@pytest.fixture
def dockerd(root: Path, docker: Docker) -> Iterator[Engine]:
    with engine(root, docker) as made:
        yield made


@pytest.fixture
def told(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The messages that systemd got until now."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(root / "notify"))
        server.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(root / "notify"))
        messages: list[str] = []

        def read() -> list[str]:
            try:
                while True:
                    messages.extend(server.recv(4096).decode().splitlines())
            except BlockingIOError:
                return messages

        yield read


def supervisor_of(docker: Docker, **service: Any) -> Supervisor:
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


def once(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Do something in a thread as soon as a condition holds."""

    def wait() -> None:
        for _ in range(1000):
            if condition():
                act()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def ask_to_stop() -> None:
    # The thread that watches; the program has no other one.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def test_ready_is_said_only_once_it_is_healthy(
    docker: Docker,
    dockerd: Engine,
    told: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del dockerd
    answers(monkeypatch, False, False, True)
    ending = once(lambda: "READY=1" in told(), docker.end)
    assert supervisor_of(docker).run() == 7
    ending.join()
    assert told() == [
        *["STATUS=Waiting until it is healthy: GET answered 503"] * 2,
        "READY=1",
        "STATUS=Serving release r1",
    ]
    assert [container.name for container in docker.started] == ["bedstone-shop-web-blue"]
    assert docker.removed == ["bedstone-shop-web-blue"]


def test_health_path_is_asked_as_by_a_visitor_and_its_answer_is_one_line(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch, False, True)
    monkeypatch.setattr(
        Supervisor, "_probe", said_by_the_app(Supervisor._probe, "no\r\n READY=1\0READY=1")
    )
    said: list[bytes] = []
    supervisor_of(docker).until_healthy(said.append)
    assert asked[0] == ("172.20.0.129", 8000, "/health/", "shop.example.com")
    assert said == [
        b"STATUS=Waiting until it is healthy: no READY=1 READY=1",
        b"READY=1\nSTATUS=Serving release r1",
    ]


def said_by_the_app(original: Any, text: str) -> Any:
    def _probe(self: Supervisor, seconds: float) -> http_check.Answer:
        answer: http_check.Answer = original(self, seconds)
        return http_check.Answer(answer.ok, text)

    return _probe


def test_container_that_ends_at_once_is_never_ready(
    docker: Docker,
    dockerd: Engine,
    told: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del dockerd
    answers(monkeypatch, False)
    docker.program = "exit 1"
    assert supervisor_of(docker).run() == 1
    assert "READY=1" not in told()


def test_never_healthy_is_stopped_with_the_last_answer(
    docker: Docker,
    dockerd: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del dockerd
    answers(monkeypatch, False)
    assert supervisor_of(docker, health_timeout_seconds=1, stop_seconds=9).run() == 1
    said = capfd.readouterr().err
    assert "bedstone: web wasn't healthy within 1 seconds: GET answered 503." in said
    assert "hint: A longer `health_timeout_seconds`" in said
    assert docker.process is not None
    assert docker.process.returncode == 0, "it was asked, not killed"
    assert docker.removed == ["bedstone-shop-web-blue"]


def test_failure_of_the_probing_process_is_no_health(
    docker: Docker,
    dockerd: Engine,
    told: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del dockerd

    def fail(*_: Any) -> None:
        raise RuntimeError("a mistake in it")

    monkeypatch.setattr(Supervisor, "_probe", fail)
    assert supervisor_of(docker).run() == 1
    said = capfd.readouterr().err
    assert "RuntimeError: a mistake in it" in said
    assert "It wasn't found out whether the service is healthy." in said
    assert "READY=1" not in told()
    assert docker.removed == ["bedstone-shop-web-blue"]


def test_stop_of_the_unit_stops_the_container_warm(
    docker: Docker,
    dockerd: Engine,
    told: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del dockerd
    answers(monkeypatch, True)
    docker.stop_signal = "SIGQUIT"
    once(lambda: "READY=1" in told(), ask_to_stop)
    assert supervisor_of(docker, stop_seconds=12).run() == 0
    assert docker.process is not None
    assert docker.process.returncode == 3, "it got its own signal"
    assert "STOPPING=1" in told()
    assert "Killed" not in capfd.readouterr().out


def test_stop_while_the_container_starts_is_not_forgotten(
    docker: Docker, dockerd: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    del dockerd
    answers(monkeypatch, False)
    monkeypatch.setattr(network, "ensure", lambda *_: ask_to_stop())
    assert supervisor_of(docker).run() == 0
    assert docker.process is not None
    assert docker.process.returncode == 0
    assert docker.removed == ["bedstone-shop-web-blue"]


def test_health_limit_that_passes_during_a_stop_is_no_failure(
    docker: Docker,
    dockerd: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del dockerd
    answers(monkeypatch, False)
    docker.program = "trap 'sleep 2; exit 0' TERM; echo ready; read code"
    once(lambda: docker.process is not None, ask_to_stop)
    assert supervisor_of(docker, health_timeout_seconds=1, stop_seconds=9).run() == 0
    assert capfd.readouterr().err == ""


def test_container_that_ignores_its_signal_is_killed_and_the_setting_named(
    docker: Docker,
    dockerd: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    del dockerd
    answers(monkeypatch, True)
    docker.program = "trap '' TERM; echo ready; read code; exit 0"
    once(lambda: docker.process is not None, ask_to_stop)
    assert supervisor_of(docker, stop_seconds=1).run() == 0
    assert docker.process is not None
    assert docker.process.returncode == -signal.SIGKILL
    said = capfd.readouterr().out
    assert "Killed: it ran on for 1 s after SIGTERM" in said
    assert "`stop_signal: SIGINT` (uWSGI" in said


def test_stop_needs_no_dockerd(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, True)
    once(lambda: docker.process is not None, ask_to_stop)
    assert supervisor_of(docker).run() == 0
    assert docker.process is not None
    assert docker.process.wait(10) == 0
    assert docker.removed == [], "the next start of the slot removes it"


def test_container_that_ended_while_dockerd_was_away_is_noticed(
    docker: Docker,
    root: Path,
    told: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch, True)
    docker.program = "exit 9"
    codes: list[int] = []
    # Signals are for the main thread alone.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    running = threading.Thread(target=lambda: codes.append(supervisor_of(docker).run()))
    running.start()
    for _ in range(1000):
        if any("doesn't answer" in message for message in told()):
            break
        time.sleep(0.01)
    assert codes == []
    with engine(root, docker) as dockerd:
        dockerd.silent = 2
        running.join(20)
    assert codes == [9]
    assert docker.removed == ["bedstone-shop-web-blue"]


@pytest.mark.parametrize("same", [True, False])
def test_running_container_is_taken_over_if_it_is_the_same(
    docker: Docker, dockerd: Engine, monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    del dockerd
    answers(monkeypatch, True)
    running = supervisor_of(docker)
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
    supervisor_of(docker, health=None).until_healthy(lambda _: None)
    assert asked[0] == ("172.20.0.129", 8000)


def test_worker_is_healthy_when_it_stays_up(docker: Docker) -> None:
    app = config.parse(APP)
    slot = Slot("worker", "1", "r1", SLOT.made)
    worker = Supervisor(app, app.services["worker"], slot, docker)  # type: ignore[arg-type]
    assert not worker._probe(supervisor.STABLE_SECONDS - 1).ok
    assert worker._probe(supervisor.STABLE_SECONDS).ok


def test_service_gets_its_own_variables(
    docker: Docker, dockerd: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    del dockerd
    answers(monkeypatch, True)
    docker.program = "exit 0"
    (paths.release("shop", "r1") / "service-web.env").write_text("KEY=own\n")
    supervisor_of(docker).run()
    supervisor_of(docker, environment_file="/etc/bedstone/apps/shop/service-web.env").run()
    assert [container.environment for container in docker.started] == [
        {"SECRET": "x"},
        {"KEY": "own"},
    ]


def test_liveness_is_asked_once_before_ready_and_a_mistake_in_it_is_named(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch, True, False, True)
    said: list[bytes] = []
    wanted = {"path": "/health/live"}
    supervisor_of(docker, liveness=wanted).until_healthy(said.append)
    paths_asked = [each[2] for each in asked]
    assert paths_asked == ["/health/", "/health/live", "/health/", "/health/live"][: len(asked)]
    assert said[0] == b"STATUS=Waiting until it is healthy: liveness: GET answered 503"
    asked.clear()
    supervisor_of(docker, liveness={"path": "/health/"}).until_healthy(said.append)
    assert [each[2] for each in asked] == ["/health/"], "asked once for both"


def test_liveness_command_of_a_worker_runs_before_it_is_ready(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []

    def run_in(name: str, command: Any, *, timeout: float) -> str:
        ran.append((name, command, timeout))
        return "`ping` ended with exit code 69" if len(ran) == 1 else ""

    monkeypatch.setattr(docker, "run_in", run_in, raising=False)
    worker = APP["services"]["worker"] | {"liveness": {"command": ["ping"]}}
    app = config.parse(APP | {"services": {"worker": worker}})
    slot = Slot("worker", "1", "r1", SLOT.made)
    watched = Supervisor(app, app.services["worker"], slot, docker)  # type: ignore[arg-type]
    watched.process = SimpleNamespace(container="bedstone-shop-worker-1")  # type: ignore[assignment]
    monkeypatch.setattr(supervisor, "STABLE_SECONDS", 0.0)
    said: list[bytes] = []
    watched.until_healthy(said.append)
    assert ran[0] == ("bedstone-shop-worker-1", ("ping",), 5)
    assert b"liveness: `ping` ended with exit code 69" in said[0]
    assert said[-1].startswith(b"READY=1")


def test_service_that_answers_no_longer_is_ended_recorded_and_looked_at(
    docker: Docker, dockerd: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del dockerd
    answers(monkeypatch, True)
    program = root / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {root}/called\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    probing = {"path": "/live", "every_seconds": 1, "timeout_seconds": 1, "failures": 1}
    watched = supervisor_of(docker, liveness=probing, stop_seconds=9)
    # Nothing listens there.
    watched.slot = Slot("web", "blue", "r1", SLOT.made, "127.0.0.1")
    watched.service = dataclasses.replace(watched.service, port=9)
    assert watched.run() == 1
    (found,) = liveness.restarts(datetime.now(UTC))
    assert found.unit == "bedstone-shop-web@blue.service"
    assert "(1 liveness probes in a row failed: Connection refused)" in found.words
    for _ in range(1000):
        if (root / "called").exists() and (root / "called").read_text():
            break
        time.sleep(0.01)
    assert (root / "called").read_text() == "start --no-block bedstone-alarms.service\n"


def test_each_restart_waits_longer_than_the_one_before(root: Path) -> None:
    del root
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    wanted = config.Liveness(path="/live")
    path = liveness.record("shop", "web@blue")
    assert liveness.prune("shop", "web@blue", now) == []
    waits = []
    for minute in range(7):
        before = liveness.prune("shop", "web@blue", now)
        waits.append(10 * liveness.failures(wanted, before, now))
        at = now - timedelta(minutes=minute)
        path.write_text(path.read_text() + f"{at.timestamp():.0f} It hangs.\n")
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    assert [entry.words for entry in liveness.restarts(now)] == ["It hangs."] * 7
    later = now + timedelta(hours=1, minutes=1)
    before = liveness.prune("shop", "web@blue", later)
    assert liveness.failures(wanted, before, later) == 3, "an hour of quiet forgives"
    assert liveness.prune("shop", "web@blue", now + timedelta(hours=3)) == []
    assert path.read_text() == ""
    rare = config.Liveness(path="/live", every_seconds=600, failures=2)
    assert liveness.failures(rare, before, now) == 2


def test_unused_slot_is_told(root: Path) -> None:
    del root
    with pytest.raises(ConfigError, match="No release of shop runs in the slot web@green"):
        supervisor.supervise("shop", "web", "green")


def test_unknown_service_is_told(docker: Docker) -> None:
    del docker
    slots.write("shop", Slot("nothing", "1", "r1", SLOT.made))
    paths.release("shop", "r1").joinpath("app.json").write_text(json.dumps(APP), encoding="utf-8")
    with pytest.raises(BedstoneError, match="has no service 'nothing'"):
        supervisor.supervise("shop", "nothing", "1")


def test_each_line_is_copied_once_over_a_reconnect(
    docker: Docker,
    dockerd: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    answers(monkeypatch, True)
    long = frame("00:00:04", b"four, \xff" + b"x" * 16_384)
    dockerd.logs = [
        frame("00:00:01", b"one\n")
        + frame("00:00:03", b"three\n")
        # The other stream's lines may come a little late.
        + frame("00:00:02", b"two\n", stream=2)
        # dockerd's own complaint, and half a line.
        + b"\x03\0\0\0\0\0\0\x05Error"
        + long,
        frame("00:00:02", b"two\n", stream=2)
        + long
        + frame("00:00:05", b"five\n", stream=2)
        + frame("00:00:04", b"; end of four\n")
        + frame("00:00:06", b"no line break"),
    ]
    ending = once(lambda: len(dockerd.asked) > 1, docker.end)
    assert supervisor_of(docker).run() == 7
    ending.join()
    four = b"four, \xff" + b"x" * 16_384 + b"; end of four\n"
    seen = capfdbinary.readouterr().out
    assert seen == b"one\nthree\ntwo\nfive\n" + four + b"no line break\n"
    assert dockerd.asked[0].endswith("&since=0.000000000")
    assert dockerd.asked[1].endswith(f"&since={1_767_225_603}.000000000")


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("1970-01-01T00:00:00.000000001Z", 0),
        ("2024-02-29T23:59:59.000000001Z", 1_709_251_199),
        ("2024-03-01T00:00:00.000000001Z", 1_709_251_200),
        ("2026-12-31T23:00:00.000000001-05:30", 1_798_777_800),
        ("2027-01-01T01:00:00.000000001+01:00", 1_798_761_600),
    ],
)
def test_times_are_read_as_dockerd_writes_them(stamp: str, seconds: int) -> None:
    assert moment_of(stamp.encode()) == seconds * 10**9 + 1


@pytest.mark.parametrize("text", [b"", b"Error", b"2026-01-01T00:00:00Z", b"x" * 30])
def test_what_has_no_time_is_no_line(text: bytes) -> None:
    assert moment_of(text) is None


def test_program_of_a_service_runs_alone(
    docker: Docker, dockerd: Engine, root: Path, told: Callable[[], list[str]]
) -> None:
    """Start it as a process of its own, as the supervisor does."""
    dockerd.logs = [frame("00:00:01", b"one\n")]
    docker.start(None)  # type: ignore[arg-type]
    assert docker.process is not None
    script = f"""
import os, signal
from bedstone.apps import supervisor
from bedstone.system.container_watch import STOP_SIGNALS
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    os.write(writing, b"READY=1\\0")
    os._exit(0)
os.close(writing)
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
process = os.pidfd_open({docker.process.pid})
supervisor._become(supervisor._program(), [
    "container=x", "id=", f"process={{process}}", "stop_signal=10",
    "stop_signal_name=SIGUSR1", "stop_seconds=9", "since=0",
    f"prober={{reading}}", f"prober_pid={{pid}}",
], [process, reading])
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        for _ in range(1000):
            if "READY=1" in told():
                break
            time.sleep(0.01)
        assert len([*Path(f"/proc/{process.pid}/task").iterdir()]) == 1, "one thread"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        assert children == ""
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        for heavy in ("_json", "_ssl", "_sqlite3", "_hashlib"):
            assert heavy not in mapped
        process.terminate()
        assert process.wait(20) == 0
    assert docker.process.returncode == 7 or docker.process.wait(5) == 7
    assert told()[-2:] == ["STOPPING=1", "STATUS=Letting the last requests finish"]
    assert docker.removed == ["x"]
    assert [*(root / "run/bedstone").iterdir()] == [], "no file is left"


def test_program_of_a_service_imports_nothing_large() -> None:
    """Each of these costs a service half a megabyte and more."""
    program = supervisor._program()
    assert program[:4] == importlib.util.MAGIC_NUMBER
    assert marshal.loads(program[16:]).co_name == "<module>"
    script = "import sys; exec(open(sys.argv[1]).read(), dict(__name__='x')); print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, container_watch.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"re", "json", "typing", "threading", "subprocess", "pathlib", "dataclasses"} & set(
        listed
    )
    assert not [name for name in listed if name.startswith("bedstone")]


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
    journal = Journal()
    pipes = Pipes(ID, journal)
    line, seen, written = b"x" * 999 + b"\n", b"", 0
    # Many times what a pipe holds.
    for _ in range(1000):
        try:
            written += os.write(pipe, line)
        except BlockingIOError:
            pipes.look()
            assert pipes.reader is None
        seen += capfdbinary.readouterr().out
    os.write(pipe, b"no line break at the end")
    pipes.finish()
    seen += capfdbinary.readouterr().out
    assert written > 10 * 64 * 1024
    assert seen == line * (written // len(line)) + b"no line break at the end\n"
    assert len(journal.recent().splitlines()) == 50


def test_output_is_left_to_dockerd_while_it_reads(
    pipe: int, root: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with subprocess.Popen(["sleep", "60"], stdin=pipe) as dockerd:
        (root / "run/docker.pid").write_text(str(dockerd.pid))
        asked, ask = os.pipe()
        container = subprocess.Popen(["sleep", "60"])
        watch = Watch(
            "x",
            ID,
            process=os.pidfd_open(container.pid),
            asked=asked,
            stop_signal=(signal.SIGTERM, "SIGTERM"),
            stop_seconds=9,
        )
        running = threading.Thread(target=watch.run)
        running.start()
        lines = b"line\n" * 8000
        os.write(pipe, lines)
        running.join(0.2)
        assert capfdbinary.readouterr().out == b""
        dockerd.kill()
        dockerd.wait()
        seen = b""
        for _ in range(500):
            seen += capfdbinary.readouterr().out
            if seen:
                break
            running.join(0.01)
        os.write(ask, b"x")
        container.wait()
        running.join()
        seen += capfdbinary.readouterr().out
        os.close(asked)
        os.close(ask)
    assert seen == lines
    assert watch.was_asked


def test_journal_that_takes_nothing_keeps_no_container_from_stopping(
    docker: Docker, dockerd: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    monkeypatch.setattr(container_watch, "_STDOUT", writing)
    monkeypatch.setattr(container_watch, "_LAST_LINES_SECONDS", 0.1)
    answers(monkeypatch, True)
    dockerd.logs = [frame("00:00:01", b"x" * 999 + b"\n") * 200]
    once(lambda: dockerd.asked, ask_to_stop)
    assert supervisor_of(docker).run() == 0
    assert docker.process is not None
    assert docker.process.returncode == 0
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("name", "number"), [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37)]
)
def test_signals_are_known_as_docker_writes_them(name: str, number: int) -> None:
    assert signal_number(name) == number


def test_unknown_signal_is_told() -> None:
    with pytest.raises(BedstoneError, match="'SIGSTOPP' is no signal"):
        signal_number("SIGSTOPP")


def test_run_is_recorded_with_its_release(
    docker: Docker, dockerd: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs that are sent to a collector have the release from there."""
    del dockerd
    (root / "var/lib/bedstone/runs").mkdir(parents=True)
    monkeypatch.setenv("INVOCATION_ID", "a" * 32)
    answers(monkeypatch, False)
    docker.program = "exit 1"
    supervisor = supervisor_of(docker)
    assert supervisor.run() == 1
    table = json.loads((root / "var/lib/bedstone/runs/releases.json").read_text())["table"]
    assert table == [{"index": "a" * 32, "value": f' release="{supervisor.slot.release}"'}]
