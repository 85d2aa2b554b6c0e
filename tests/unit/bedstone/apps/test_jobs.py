"""One run of a job, in a container that a fake Docker plays."""

from __future__ import annotations

import copy
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import jobs, network
from bedstone.cli import main
from bedstone.core import lock
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.system import container_watch
from bedstone.system.container import Container
from bedstone.system.docker import ContainerFacts
from tests.unit.fixtures.containers import Docker as Process
from tests.unit.fixtures.daily import APP, declared
from tests.unit.fixtures.engine import Engine, engine, frame
from tests.unit.fixtures.in_service import RELEASE, put_into_service

__all__ = ["declared"]

NAME = "bedstone-shop-job-clean"


class Docker(Process):
    """Records the calls, and ends by itself when the test says so."""

    dockerd: Engine

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.once_started: Callable[[], None] = lambda: None

    def start(self, container: Container) -> None:
        self.done.append("start")
        super().start(container)
        self.once_started()

    def remove(self, name: str, **options: Any) -> None:
        self.done.append("remove")
        super().remove(name, **options)
        self.process = None


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that stands for the server's root; a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        monkeypatch.setenv("BEDSTONE_ROOT", directory)
        yield Path(directory)


@pytest.fixture
def docker(declared: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    del declared
    put_into_service()
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    monkeypatch.setattr(network, "ensure", lambda *_: "172.20.0.0/24")
    monkeypatch.setattr(container_watch, "_RECONNECT_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(container_watch, "_ASK_AGAIN_SECONDS", 0.01)
    made = Docker()
    with engine(root, made) as made.dockerd:
        made.dockerd.logs = [frame("00:00:01", b"cleaned 7 rows\n")]
        yield made
    made.kill()


def run(docker: Docker, job: str = "clean") -> int:
    return jobs.run("shop", job, docker)  # type: ignore[arg-type]


def test_job_runs_in_the_release_that_serves_within_its_limits(docker: Docker) -> None:
    docker.program = "exit 0"
    assert run(docker) == 0
    [container] = docker.started
    assert container.name == NAME
    assert container.command == ("manage", "clean")
    assert container.environment == {"MODE": "live"}
    assert (container.memory_mb, container.cpus, container.pids) == (64, 0.5, 20)
    assert container.labels["bedstone.release"] == RELEASE
    assert docker.done == ["start", "remove"]


def test_run_is_recorded_with_its_release(
    docker: Docker, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs that are sent to a collector have the release from there."""
    (root / "var/lib/bedstone/runs").mkdir(parents=True)
    monkeypatch.setenv("INVOCATION_ID", "a" * 32)
    docker.program = "exit 0"
    assert run(docker) == 0
    table = json.loads((root / "var/lib/bedstone/runs/releases.json").read_text())["table"]
    assert table == [{"index": "a" * 32, "value": f' release="{RELEASE}"'}]


def test_output_is_shown_and_the_exit_code_is_the_commands(
    docker: Docker, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    docker.program = "exit 5"
    assert run(docker) == 5
    assert b"cleaned 7 rows\n" in capfdbinary.readouterr().out


def test_job_that_the_database_ended_names_the_setting(
    docker: Docker, capsys: pytest.CaptureFixture[str]
) -> None:
    line = b"FATAL:  terminating connection due to idle-in-transaction timeout\n"
    docker.dockerd.logs = [frame("00:00:01", line, stream=2)]
    docker.program = "exit 1"
    assert run(docker) == 1
    assert "{idle_in_transaction_session_timeout: 30min}" in capsys.readouterr().err
    docker.program = "exit 0"
    assert run(docker) == 0
    assert "idle_in_transaction" not in capsys.readouterr().err


def test_too_long_is_stopped_warm_and_told(docker: Docker) -> None:
    short = copy.deepcopy(APP)
    short["jobs"]["clean"]["timeout_seconds"] = 1
    put_into_service(short, "r2")
    with pytest.raises(BedstoneError, match="took longer than 1 seconds") as caught:
        run(docker)
    assert "timeout_seconds" in str(caught.value.hint)
    assert docker.done == ["start", "remove"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_of_the_unit_stops_the_container_warm(
    docker: Docker, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    docker.once_started = lambda: os.kill(os.getpid(), number)
    assert run(docker) == 143
    assert docker.done == ["start", "remove"]
    assert "stopped before it was done" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_container_of_a_killed_run_is_ended_first(
    docker: Docker, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.present = ContainerFacts(NAME, running=True, exit_code=0, labels={})
    docker.program = "exit 0"
    assert run(docker) == 0
    assert docker.done == ["remove", "start", "remove"]
    assert "a run that was killed" in capsys.readouterr().err


def test_two_runs_at_once_are_refused(docker: Docker) -> None:
    with (
        lock.held("shop.clean", "job clean of shop"),
        pytest.raises(lock.LockedError, match="The job clean of shop runs already"),
    ):
        run(docker)
    assert docker.done == []


def test_restart_of_dockerd_is_survived(docker: Docker) -> None:
    docker.dockerd.silent = 2
    docker.program = "exit 4"
    assert run(docker) == 4


def test_kill_for_memory_is_guessed(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    docker.program = "exit 137"
    assert run(docker) == 137
    assert "more than its 64 MiB" in capsys.readouterr().err


def test_container_that_cannot_start_is_told_and_signals_are_as_before(docker: Docker) -> None:
    def fail() -> None:
        raise CommandError("no such image", returncode=125, output="")

    before = signal.getsignal(signal.SIGTERM)
    docker.once_started = fail
    with pytest.raises(CommandError, match="no such image"):
        run(docker)
    assert signal.getsignal(signal.SIGTERM) is before


# --- a job that the release doesn't have ------------------------------------------------------


@pytest.mark.parametrize("released", [True, False])
def test_job_of_the_next_release_is_no_failure_of_its_timer(
    root: Path,
    declared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    released: bool,
) -> None:
    del root, declared
    if released:
        put_into_service(APP | {"jobs": {}})
    arguments = ["job", "shop", "clean", "--foreground"]
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert main.main(arguments) == 1
    said = "made before it" if released else "hasn't been released yet"
    assert said in capsys.readouterr().err
    monkeypatch.setenv("INVOCATION_ID", "abc")
    assert main.main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("Nothing was run. ")
    assert said in told


def test_unknown_job_is_told(declared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del declared
    put_into_service()
    assert main.main(["job", "shop", "nothing", "--foreground"]) == 1
    assert "shop has no job 'nothing'; it has clean, report." in capsys.readouterr().err


@pytest.mark.parametrize("app_is_declared", [True, False])
def test_job_that_is_no_longer_declared_runs_while_its_release_serves(
    docker: Docker, declared: Path, *, app_is_declared: bool
) -> None:
    if app_is_declared:
        (declared / "app.json").write_text(json.dumps(APP | {"jobs": {}}))
        assert jobs.declared("shop") == {}, "nobody misses its unit"
    else:
        (declared / "app.json").unlink()
        assert set(jobs.declared("shop")) == {"clean", "report"}
    docker.program = "exit 0"
    assert run(docker) == 0
