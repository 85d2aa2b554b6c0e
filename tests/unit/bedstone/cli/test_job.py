"""`bedstone job`: the list, and a run in its unit; systemctl and journalctl are scripts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bedstone.cli import main
from bedstone.system import unit_run
from tests.unit.fixtures.daily import APP
from tests.unit.fixtures.in_service import program, put_into_service

SYSTEMCTL = r"""
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1" in
    start)
        echo $$ > "$here/invocation"
        printf 'one\ntwo\nthree without an end' > "$here/journal"
        [ -e "$here/refused" ] && { echo old > "$here/invocation"; echo masked >&2; exit 1; }
        exit "$(cat "$here/code" 2> /dev/null || echo 0)";;
    show)
        if [ "$TZ" != UTC ]; then exit 9; fi
        cat "$here/shown"
        echo "InvocationID=$(cat "$here/invocation" 2> /dev/null)";;
esac
"""
# The follower sees two lines only, the look afterwards all.
JOURNALCTL = r"""
here=$(dirname "$0")
echo "journalctl $*" >> "$here/calls"
case "$*" in
    *--follow*)
        until [ -e "$here/journal" ]; do sleep 0.02; done
        head -n 2 "$here/journal"
        exec sleep 60;;
    *--sync*) ;;
    *) cat "$here/journal";;
esac
"""
UNIT = "bedstone-shop-job-clean"
NEVER = f"""Id={UNIT}.service
LoadState=loaded
ActiveState=inactive
Result=success
ExecMainStatus=0
ExecMainStartTimestamp=
ExecMainExitTimestamp=

Id={UNIT}.timer
LoadState=loaded
ActiveState=active
LastTriggerUSec=n/a
NextElapseUSecRealtime=Sat 2126-11-23 03:00:00 UTC

Id=bedstone-shop-job-report.service
LoadState=not-found
"""
ENDED = f"""Id={UNIT}.service
LoadState=loaded
ActiveState=STATE
Result=RESULT
ExecMainStatus=STATUS
ExecMainStartTimestamp=Fri 2026-11-20 03:00:00 UTC
ExecMainExitTimestamp=Fri 2026-11-20 03:00:07 UTC
"""


def ended(result: str, status: int, state: str = "inactive") -> str:
    text = ENDED.replace("RESULT", result).replace("STATUS", str(status))
    return text.replace("STATE", state)


@pytest.fixture
def programs(root: Path, declared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the fake programs, with an app that serves."""
    del declared
    put_into_service()
    directory = root / "programs"
    program(directory, "systemctl", SYSTEMCTL)
    program(directory, "journalctl", JOURNALCTL)
    (directory / "shown").write_text(NEVER)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def test_jobs_are_listed(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["job", "shop"]) == 0
    heading, clean, report = capsys.readouterr().out.splitlines()
    assert heading.split() == ["JOB", "SCHEDULE", "LAST", "RUN", "RESULT", "NEXT", "RUN"]
    assert clean.split() == [
        "clean", "*-*-*", "03:00:00", "-", "never", "ran", "2126-11-23", "03:00", "UTC",
    ]  # fmt: skip
    assert "by hand" in report
    assert "not installed: run site.yml" in report
    (programs / "shown").write_text(ended("exit-code", 3))
    assert main.main(["job", "shop"]) == 0
    assert "FAILED: ended with exit code 3" in capsys.readouterr().out


def test_list_for_machines_is_complete(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (programs / "shown").write_text(ended("timeout", 143))
    assert main.main(["job", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "job": "clean",
        "schedule": "*-*-* 03:00:00",
        "unit": f"{UNIT}.service",
        "installed": True,
        "running": False,
        "result": "failed",
        "error": "timeout",
        "exit_code": 143,
        "last_run": "2026-11-20T03:00:00+00:00",
        "last_end": "2026-11-20T03:00:07+00:00",
        "next_run": None,
    }


def test_app_without_jobs_says_so(
    root: Path, declared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del root
    (declared / "app.json").write_text(json.dumps(APP | {"jobs": {}}))
    assert main.main(["job", "shop"]) == 0
    assert "shop has no jobs" in capsys.readouterr().out


def test_run_shows_every_line_once_and_ends_as_the_job(
    programs: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (programs / "shown").write_text(ended("success", 0))
    assert main.main(["job", "shop", "clean"]) == 0
    assert capfdbinary.readouterr().out == b"one\ntwo\nthree without an end"
    assert f"start {UNIT}.service" in (programs / "calls").read_text()
    (programs / "code").write_text("1")
    (programs / "shown").write_text(ended("exit-code", 4, "failed"))
    assert main.main(["job", "shop", "clean"]) == 4


def test_run_that_goes_on_already_is_joined(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (programs / "shown").write_text(ended("success", 0, "activating"))
    assert main.main(["job", "shop", "clean"]) == 0
    assert "It runs already, since 2026-11-20 03:00 UTC." in capsys.readouterr().out
    assert "--since @1795143600.000000" in (programs / "calls").read_text()


def test_job_that_took_too_long_is_told(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (programs / "shown").write_text(ended("timeout", 143, "failed"))
    assert main.main(["job", "shop", "clean"]) == 1
    assert "The job clean of shop failed: it took longer than it may." in capsys.readouterr().err


def test_unit_that_systemd_does_not_start_is_told(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (programs / "refused").touch()
    (programs / "invocation").write_text("old")
    assert main.main(["job", "shop", "clean"]) == 1
    assert "  | masked" in capsys.readouterr().err


def test_job_without_its_unit_is_told(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del programs
    assert main.main(["job", "shop", "report"]) == 1
    assert "systemd has no unit bedstone-shop-job-report.service" in capsys.readouterr().err


def test_job_of_the_next_release_is_not_started(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_into_service(APP | {"jobs": {}}, "r2")
    assert main.main(["job", "shop", "clean"]) == 1
    assert "it runs from the next release on" in capsys.readouterr().err
    assert not (programs / "calls").exists()


@pytest.mark.parametrize("arguments", [["--foreground"], ["clean", "--json"]])
def test_flags_that_do_not_fit_are_told(
    programs: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del programs
    assert main.main(["job", "shop", *arguments]) == 1
    assert " goes with the " in capsys.readouterr().err


def test_interrupt_ends_the_looking_on_and_not_the_job(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    del programs
    monkeypatch.setattr(unit_run, "run", interrupt)
    assert main.main(["job", "shop", "clean"]) == 130
    assert f"The job goes on; `systemctl stop {UNIT}.service` ends it." in capsys.readouterr().err


def test_reader_that_has_seen_enough_is_no_error(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(_line: bytes) -> None:
        raise BrokenPipeError

    (programs / "shown").write_text(ended("success", 0))
    monkeypatch.setattr(unit_run, "_show", show)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1)
    assert main.main(["job", "shop", "clean"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "units"),
    [
        ([], ["bedstone-shop-web@*", "bedstone-shop-worker@*"]),
        (["web"], ["bedstone-shop-web@*"]),
        (["clean"], [f"{UNIT}.service"]),
    ],
)
def test_logs_are_those_of_services_or_of_a_job(
    programs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], units: list[str]
) -> None:
    del programs
    called: list[list[str]] = []

    def become(_program: str, argv: list[str]) -> None:
        called.append(argv)
        sys.exit(0)

    monkeypatch.setattr(os, "execvp", become)
    with pytest.raises(SystemExit):
        main.main(["logs", "shop", *arguments])
    [argv] = called
    assert [argv[at + 1] for at, word in enumerate(argv) if word == "--unit"] == units
