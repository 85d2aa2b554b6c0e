from pathlib import Path

import pytest

from tests import stage_times
from tests.run import Stage, default_jobs, run_stage, telling

# As Molecule prints it, colours included.
MOLECULE = """\
    0.5 \x1b[36mINFO    \x1b[0m \x1b[32mca\x1b[0m ➜ \x1b[33mdestroy\x1b[0m: \x1b[36mExecuting\x1b[0m
    4.0 INFO     ca ➜ destroy: Executed: Successful
    4.0 INFO     ca ➜ create: Executing
   10.5 INFO     ca ➜ create: Executed: Successful
   10.5 INFO     ca ➜ verify: Executing
   20.0   │     - 7.25s call     molecule/ca/test_ca.py::test_chain[ssh://molecule-ca-trixie]
   20.1   │     - 6.50s setup \x1b[0m
   20.1 \x1b[2m\x1b[32m  │\x1b[0m       molecule/ca/test_ca.py::test_folded[ssh://molecule-ca-trixie]
   20.5 INFO     ca ➜ verify: Executed: Successful
   21.0 INFO     ca ➜ destroy: Executing
   23.5 INFO     ca ➜ destroy: Executed: Successful
   23.5 ca ➜ destroy: Executed: Successful
"""


@pytest.fixture
def used(tmp_path: Path) -> stage_times.Used:
    log, usage = tmp_path / "log", tmp_path / "usage"
    log.write_text(MOLECULE)
    usage.write_text(
        '{"server": "one", "cpu_seconds": 30.5, "apt_seconds": 12}\n'
        '{"server": "two", "cpu_seconds": 1.5, "apt_seconds": 3}\n'
    )
    return stage_times.read(log, usage, 9.0)


def test_actions_are_timed_and_the_two_of_destroy_added(used: stage_times.Used) -> None:
    assert used.actions == {"destroy": 6.0, "create": 6.5, "verify": 10.0}


def test_servers_of_a_stage_are_added(used: stage_times.Used) -> None:
    assert (used.server_cpu, used.apt_seconds) == (32.0, 15.0)


def test_table_adds_the_stages_and_shows_shares(used: stage_times.Used) -> None:
    text = stage_times.table([("molecule-ca", 25.0, used), ("check", 75.0, stage_times.Used())])
    *_, check, total, share = text.splitlines()
    assert check.split() == ["check", "75"]
    assert total.split() == ["all", "100", "6", "10", "6", "15", "9", "32"]
    assert share.split() == ["share", "6%", "0%", "0%", "0%", "0%", "10%", "6%", "15%", "9%", "32%"]


def test_slowest_tests_of_all_stages_are_shown_in_order(used: stage_times.Used) -> None:
    other = stage_times.Used(tests=((9.0, "molecule/x.py::test_y"),))
    shown = stage_times.slowest([("a", 1.0, used), ("b", 1.0, other)]).split()
    assert shown == [
        "9.0", "molecule/x.py::test_y",
        "7.2", "molecule/ca/test_ca.py::test_chain[ssh://molecule-ca-trixie]",
        "6.5", "molecule/ca/test_ca.py::test_folded[ssh://molecule-ca-trixie]",
    ]  # fmt: skip


def test_stage_is_run_with_its_lines_stamped_and_its_processor_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.run.LOGS", tmp_path)
    work = "import time, sys; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass\n"
    command = ("python3", "-c", work + "print('E   assert 1 == 2'); sys.exit(3)")
    outcome = run_stage(Stage("one", command))
    assert outcome.returncode == 3
    assert outcome.used.controller_cpu > 0.3
    assert stage_times.STAMP.match(outcome.log.read_text())
    assert telling(outcome.log) == ["E   assert 1 == 2"]


def test_stage_over_its_limit_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.run.LOGS", tmp_path)
    monkeypatch.setattr("tests.run.STAGE_LIMIT_SECONDS", 0.2)
    outcome = run_stage(Stage("one", ("sleep", "30")))
    assert outcome.returncode == 124
    assert outcome.seconds < 20
    assert "stopped: over" in outcome.log.read_text()


def test_machine_is_read() -> None:
    machine = stage_times.Machine()
    assert machine.least_mib > 0
    assert "cores busy on average: " in machine.stop(1.0)


@pytest.mark.parametrize(
    ("cores", "mib", "jobs"),
    [(2, 22000, 3), (4, 30000, 6), (4, 9000, 2), (64, 500000, 6), (1, 22000, 1), (2, 500, 1)],
)
def test_stages_at_a_time_follow_from_cores_and_memory(cores: int, mib: int, jobs: int) -> None:
    assert default_jobs(cores, mib) == jobs
