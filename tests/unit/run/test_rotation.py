import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import rotation, run, stage_times
from tests.rotation import SEED_SERVERS_VARIABLE, seed_servers
from tests.seeds.systems import SERVERS, STAND_INS

SOME = {"d": ("dog",), "a": ("ant",), "c": ("cat", "cow"), "b": ("bee",)}


def test_two_systems_have_their_turn() -> None:
    found = {seed_servers(SOME, seed) for seed in range(4)}
    assert found == {("c",), ("a", "b"), ("a", "d"), ("b", "d")}


def test_same_seed_chooses_the_same() -> None:
    other = dict(sorted(SOME.items()))
    assert list(other) != list(SOME)
    assert seed_servers(SOME, 77_123) == seed_servers(other, 77_123)


def test_names_take_the_place_of_the_choice() -> None:
    assert seed_servers(SOME, 0, "d") == ("d",)
    assert seed_servers(SOME, 0, "d a b") == ("d", "a", "b")


def test_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"SERVERS has x, y; there are: a, b, c, d$"):
        seed_servers(SOME, 0, "a x y")


def test_seed_is_the_programs() -> None:
    tree = subprocess.run(
        ["git", "rev-parse", "HEAD:src/bedstone"], capture_output=True, text=True, check=True
    ).stdout
    assert rotation.program_seed() == int(tree[:8], 16) == rotation.program_seed()


def test_every_system_is_on_one_server() -> None:
    assert sorted(name for systems in SERVERS.values() for name in systems) == sorted(STAND_INS)


def seeds_stage() -> tuple[str, ...]:
    (stage,) = [stage for stage in run.all_stages() if stage.name == "seeds"]
    return stage.command


def test_stage_takes_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_SERVERS_VARIABLE, "srq-hpn piggy-bank-and-coffee")
    assert seeds_stage()[-2:] == ("-k", "srq-hpn or piggy-bank-and-coffee")
    monkeypatch.delenv(SEED_SERVERS_VARIABLE)
    monkeypatch.setattr(rotation, "program_seed", lambda: 1)
    assert seeds_stage()[-2:] == ("-k", "internal-payment or kore")


def test_each_story_has_its_turn() -> None:
    assert {rotation.story(seed) for seed in range(4)} == set(rotation.STORIES)


def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> list[str]:
    """Return the stages that a run of program 2 starts, in order; none of them does a thing."""
    ran: list[str] = []

    def record(stage: run.Stage) -> run.Outcome:
        ran.append(stage.name)
        log = tmp_path / stage.name
        log.touch()
        return run.Outcome(stage, 1.0, 0, log, stage_times.read(log, log, 0.0))

    monkeypatch.setattr(run, "run_stage", record)
    monkeypatch.setattr(run, "LOGS", tmp_path)
    monkeypatch.setattr(run, "program_seed", lambda: 2)
    monkeypatch.setattr(sys, "argv", ["tests.run", *arguments])
    monkeypatch.setattr(run, "prune", lambda: None)
    assert run.main() == 0
    return ran


@pytest.mark.parametrize(
    ("arguments", "stories"),
    [
        ((), {"molecule-upgrade"}),
        (("--all",), set(rotation.STORIES)),
        (("drill", "app"), {"drill"}),
    ],
)
def test_run_takes_one_story_unless_asked_for_others(
    arguments: tuple[str, ...],
    stories: set[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = recorded(monkeypatch, tmp_path, *arguments)
    assert set(ran) & set(rotation.STORIES) == stories
    told = "this time molecule-upgrade; make test-all has drill, molecule-postgresql_replica, newc"
    assert (told in capsys.readouterr().out) == (not arguments)
    assert "app" in ran


@pytest.mark.parametrize(
    ("arguments", "left_out"), [(("--within=0",), 10), ((), 0), (("--all",), 0)]
)
def test_turn_of_a_run_comes_last_and_what_has_no_time_is_named(
    arguments: tuple[str, ...],
    left_out: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = recorded(monkeypatch, tmp_path, *arguments, "--jobs=1")
    told = capsys.readouterr().out
    turn = list(rotation.last(2))
    assert turn[:3] == ["molecule-base", "molecule-firewall", "molecule-upgrade"]
    if arguments != ("--all",):
        assert ran[len(ran) - 10 + left_out :] == turn[left_out:]
    assert {"check", "seeds", "molecule-release", "molecule-pgbackrest"} <= set(ran)
    assert (f", {left_out} left out" in told) == bool(left_out)
    assert (f"no time within 0 minutes: {', '.join(turn)}" in told) == bool(left_out)


def test_everything_has_its_turn() -> None:
    turns = [rotation.last(seed) for seed in range(len(rotation.EXTRAS) * 2)]
    assert {turn[-len(rotation.EXTRAS)] for turn in turns} == set(rotation.EXTRAS)
    groups = [name for group in rotation.GROUPS for name in group]
    assert all(set(rotation.EXTRAS) < set(turn) for turn in turns)
    assert all(any(name not in turn for turn in turns) for name in groups)
    assert all(not set(groups) <= set(turn) for turn in turns)
    known = {stage.name for stage in run.all_stages()}
    assert {*rotation.EXTRAS, *rotation.STORIES, *groups} <= known == run.SECONDS.keys()


def test_slow_machine_takes_longer_for_what_is_left(tmp_path: Path) -> None:
    def ended(name: str, seconds: float) -> run.Outcome:
        used = stage_times.read(tmp_path / "none", tmp_path / "none", 0.0)
        return run.Outcome(run.Stage(name, ()), seconds, 0, tmp_path, used)

    (tmp_path / "none").touch()
    left = run.Stage("molecule-redis", ())
    usual, check = run.SECONDS["molecule-redis"], run.SECONDS["check"]
    assert run.expected_seconds(left, []) == usual
    assert run.expected_seconds(left, [ended("check", check / 2)]) == usual
    slow = [ended("check", check * 2), ended("app", run.SECONDS["app"] * 2), ended("new", 9000)]
    assert run.expected_seconds(left, slow) == usual * 2
    assert run.expected_seconds(run.Stage("new", ()), []) == run.SECONDS_OF_A_NEW_STAGE


def test_name_of_a_server_chooses_its_tests_alone() -> None:
    """pytest's -k takes every test that has the name in its own, too."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/seeds"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    tests = [line.partition("::")[2] for line in told.splitlines() if "::" in line]
    for name in SERVERS:
        taken = [test for test in tests if name in test]
        assert taken
        assert [test for test in taken if name not in test.partition("[")[2]] == []


def test_wrong_name_ends_the_run_with_the_known_ones() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.run", "seeds"],
        env={**os.environ, SEED_SERVERS_VARIABLE: "core"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "core; there are: internal-payment, kore, piggy-bank-and-coffee, srq-hpn" in ended.stderr
