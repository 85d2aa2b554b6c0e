"""`bedstone notify`: what systemd calls when a unit failed, and the test of the hooks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bedstone.cli import main
from bedstone.core.errors import CommandError
from bedstone.core.process import Completed
from bedstone.notify import unit_failures
from bedstone.system.systemd import Systemd
from bedstone_control.roles import zipapp
from tests.unit.fixtures.daily import Serve

WEB = "bedstone-shop-web@blue.service"
SHOWN = """\
Id={unit}
ActiveState=failed
Result={result}
ExecMainStatus=3
InvocationID=abc
Description=x
"""


class Unit:
    """A failed unit: answers systemctl and journalctl."""

    def __init__(self, result: str = "exit-code") -> None:
        self.result = result
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        self.calls.append(list(argv))
        said = ""
        if argv[0] == "systemctl":
            said = SHOWN.format(unit=argv[-1], result=self.result)
        elif "--sync" not in argv:
            said = "why it failed\n"
        return Completed(tuple(argv), 0, said, "", 0.0)


@pytest.mark.parametrize(
    ("unit", "app", "title"),
    [
        ("bedstone-backup.service", None, "The backup failed."),
        ("bedstone-shop-job-clean.service", "shop", "The job clean of shop failed."),
        ("bedstone-shop-web@blue.service", "shop", "The service web@blue of shop failed."),
        ("bedstone-shop-job-x@1.service", "shop", "The service job-x@1 of shop failed."),
        ("bedstone-shop-web", "shop", "The service web of shop failed."),
        (
            "bedstone-operation@shop.service",
            "shop",
            "A release, rollback or restart of shop failed.",
        ),
        ("nginx.service", None, "The unit nginx.service failed."),
    ],
)
def test_unit_is_told_in_words(declared: Path, unit: str, app: str | None, title: str) -> None:
    del declared
    event = unit_failures.event_of(unit, Unit())
    assert (event.kind, event.app, event.title) == ("failure", app, title)
    assert event.error == "it ended with exit code 3."
    assert event.details == "why it failed\n"
    assert "`journalctl -u " in str(event.hint)


def test_cause_is_told_with_the_setting_that_helps(
    declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del declared
    cause = "OperationalError: canceling statement due to statement timeout"
    lines = f"Traceback (most recent call last):\n  x\n{cause}\n"
    monkeypatch.setattr(Systemd, "journal", lambda *_, **__: lines)
    event = unit_failures.event_of("bedstone-shop-job-clean.service", Unit())
    assert event.error == f"it ended with exit code 3. {cause}"
    assert "`database: {settings: {statement_timeout: 30min}}`" in str(event.hint)


def test_damaged_ledger_is_no_reason_to_be_silent(root: Path, declared: Path) -> None:
    del declared
    (root / "var/lib/bedstone").mkdir(parents=True)
    (root / "var/lib/bedstone/ledger.sqlite").write_text("no database" * 1000)
    event = unit_failures.event_of("bedstone-shop-job-clean.service", Unit())
    assert (event.app, event.release) == ("shop", None)


def test_systemd_that_does_not_answer_is_no_reason_to_be_silent(
    declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del declared

    def silent(argv: Sequence[str], **_: Any) -> Completed:
        raise CommandError(f"`{argv[0]}` took longer than 20 seconds", returncode=None, output="")

    monkeypatch.setenv("MONITOR_UNIT", "bedstone-shop-job-clean.service")
    monkeypatch.setenv("MONITOR_SERVICE_RESULT", "timeout")
    event = unit_failures.event_of("bedstone-shop-job-clean.service", silent)
    assert (event.title, event.error) == (
        "The job clean of shop failed.",
        "it took longer than it may.",
    )


def test_app_that_has_the_job_is_taken_and_without_one_the_longest_name(declared: Path) -> None:
    other = declared.with_name("shop-job")
    other.mkdir()
    (other / "app.json").write_text("{}")
    assert unit_failures.about("bedstone-shop-job-clean.service")[0] == "shop"
    assert unit_failures.about("bedstone-shop-job-removed.service")[0] == "shop-job"


def test_only_the_failed_runs_lines_are_told(
    declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del declared
    unit = Unit()
    unit_failures.event_of("bedstone-backup.service", unit)
    assert "_SYSTEMD_INVOCATION_ID=abc" in unit.calls[-1]
    for name, value in {
        "UNIT": "bedstone-backup.service",
        "INVOCATION_ID": "def",
        "SERVICE_RESULT": "timeout",
    }.items():
        monkeypatch.setenv(f"MONITOR_{name}", value)
    event = unit_failures.event_of("bedstone-backup.service", unit)
    assert event.error == "it took longer than it may."
    assert "_SYSTEMD_INVOCATION_ID=def" in unit.calls[-1]


@pytest.mark.parametrize(
    ("result", "said"),
    [("oom-kill", "it ran out of memory."), ("new-in-systemd", "new-in-systemd.")],
)
def test_result_is_told_in_words(declared: Path, result: str, said: str) -> None:
    del declared
    assert unit_failures.event_of("x.service", Unit(result)).error == said


class Restarting:
    """A unit with `Restart=`: answers systemctl with one state after the other."""

    def __init__(self, *states: tuple[str, str], restart: str = "always") -> None:
        self.states = list(states)
        self.restart = restart

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        active, sub = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        said = f"Id={argv[-1]}\nActiveState={active}\nSubState={sub}\nRestart={self.restart}\n"
        return Completed(tuple(argv), 0, said, "", 0.0)


WAITS = ("activating", "auto-restart")


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        # The same run hears of the last failure and of the limit that is hit a second later.
        (Restarting(WAITS, ("activating", "auto-restart-queued"), ("failed", "failed")), "told"),
        (Restarting(("failed", "failed")), "told"),
        (Restarting(WAITS, WAITS, ("activating", "start")), "restarted"),
        (Restarting(("active", "running")), "restarted"),
        # systemd that doesn't get on: the next failure is told.
        (Restarting(WAITS), "restarted"),
        # A job that was started again by its timer since: its failure is told.
        (Restarting(("active", "running"), restart="no"), "told"),
    ],
)
def test_failure_after_which_systemd_starts_the_service_again_is_not_told(
    unit: Restarting, said: str
) -> None:
    pauses: list[float] = []
    assert unit_failures.is_restarted(WEB, unit, pauses.append) is (said == "restarted")
    assert sum(pauses) <= 30.1


def test_systemd_that_does_not_answer_is_told_of() -> None:
    def silent(argv: Sequence[str], **_: Any) -> Completed:
        raise CommandError(f"{argv[0]} took too long", returncode=None, output="")

    assert not unit_failures.is_restarted(WEB, silent)


def test_limit_is_the_reason_that_is_told(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del declared
    monkeypatch.setenv("MONITOR_UNIT", WEB)
    monkeypatch.setenv("MONITOR_SERVICE_RESULT", "exit-code")
    assert unit_failures.event_of(WEB, Unit("start-limit-hit")).error == (
        "it failed too often in a row."
    )


def test_hooks_hear_nothing_of_a_service_that_is_started_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    del root
    monkeypatch.setattr(unit_failures, "is_restarted", lambda _unit: True)
    monkeypatch.setattr(unit_failures, "event_of", lambda _unit: pytest.fail("it was told"))
    assert main.main(["notify", "--unit", WEB]) == 0
    assert "starts it again" in capsys.readouterr().out.replace(WEB, "it")


def test_hooks_hear_of_a_failed_unit(
    declared: Path,
    hooks_file: Callable[..., Path],
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del declared
    event = unit_failures.event_of("bedstone-shop-job-clean.service", Unit())
    monkeypatch.setattr(unit_failures, "is_restarted", lambda _unit: False)
    monkeypatch.setattr(unit_failures, "event_of", lambda _unit: event)
    server = serve(lambda handler: handler.send_response(200) or handler.end_headers())  # type: ignore[func-returns-value]
    hooks_file({"webhook": server.url})
    assert main.main(["notify", "--unit", "bedstone-shop-job-clean.service"]) == 0
    assert capsys.readouterr().out.startswith("ok      webhook 127.0.0.1 (")
    assert server.posted[0][2]["title"] == "The job clean of shop failed."
    hooks_file({"webhook": server.url, "events": ["release"]})
    assert main.main(["notify", "--unit", "bedstone-shop-job-clean.service"]) == 0
    assert "No hook wants to hear of failures." in capsys.readouterr().out


def test_test_tells_how_each_hook_went(
    root: Path, hooks_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    del root
    hooks_file({"command": ["/bin/true"]}, {"command": ["/bin/false"], "events": ["release"]})
    assert main.main(["notify", "--test"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("ok      command /bin/true (")
    assert said.err == "FAILED  command /bin/false failed with exit code 1\n"
    hooks_file({"command": ["/bin/true"]})
    assert main.main(["notify", "--test"]) == 0


def test_test_without_hooks_says_how_to_get_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del root
    assert main.main(["notify", "--test"]) == 1
    assert "bedstone_hooks" in capsys.readouterr().err


def test_installed_program_sends_webhooks(
    root: Path, hooks_file: Callable[..., Path], serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda handler: handler.send_response(200) or handler.end_headers())  # type: ignore[func-returns-value]
    hooks_file({"webhook": server.url})
    ran = subprocess.run(
        [sys.executable, "-I", zipapp.build(tmp_path / "cache"), "notify", "--test"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"BEDSTONE_ROOT": str(root), "PATH": os.environ["PATH"]},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert server.posted[0][2]["event"] == "test"
