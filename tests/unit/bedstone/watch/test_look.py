"""The hourly check as a whole: one failing check, what is reported, kept and shown."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone import watch
from bedstone.cli import main
from bedstone.core import files
from bedstone.core.errors import BedstoneError
from bedstone.core.x509 import Certificate
from bedstone.notify import alarms, events
from bedstone.notify import settings as hook_settings
from bedstone.notify.alarms import Alarm
from bedstone.notify.report import report
from bedstone.status import gather as overview
from bedstone.status.metrics import Collector
from bedstone.status.prometheus import render
from bedstone.watch import Check, Look, certificates, units

NOW = datetime.now(UTC)
FULL = Alarm("disks//", "red", "only 1 MiB is free at /", "`du`")
OLD = Alarm("certificates//etc/x.crt", "warning", "x ends in 20 days", "`deploy.yml`")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[events.Event]:
    found: list[events.Event] = []

    def tell(event: events.Event) -> tuple[bool, tuple[str, ...]]:
        found.append(event)
        return True, ()

    monkeypatch.setattr(events, "send", tell)
    return found


def report_look(found: Look) -> tuple[str, ...]:
    return report(watch.SCOPE, found.alarms, found.unjudged)


def seen(*found: Alarm, unjudged: tuple[str, ...] = ()) -> Look:
    return Look(datetime.now(UTC), list(found), list(unjudged))


def check(name: str, gather: Callable[[], Any], *found: Alarm) -> Check:
    return Check(name, f"the {name}", gather, lambda _facts, _now: iter(found))


# --- looking ---------------------------------------------------------------------------------


def test_one_check_that_fails_or_hangs_is_said_and_holds_up_no_other() -> None:
    released = threading.Event()

    def fail() -> None:
        raise BedstoneError("it is away")

    def crash() -> None:
        raise RuntimeError("bug")

    began = time.monotonic()
    found = watch.run_checks(
        [
            check("disks", lambda: 1, FULL),
            check("one", fail),
            check("two", crash),
            check("three", released.wait),
            check("four", lambda: None, OLD),
        ],
        seconds=1,
    )
    assert time.monotonic() - began < 30
    released.set()
    assert found.unjudged == ["one", "two", "three", "four"]
    assert [(alarm.name, alarm.severity) for alarm in found.alarms] == [
        ("disks//", "red"),
        ("one/unjudged", "warning"),
        ("two/unjudged", "warning"),
        ("three/unjudged", "warning"),
    ]
    said = [alarm.words for alarm in found.alarms]
    assert said[1:] == [
        "the one couldn't be judged: it is away",
        "the two couldn't be judged: RuntimeError: bug",
        "the three couldn't be judged: no answer in 1 seconds",
    ]


def test_real_checks_have_names_of_their_own_and_judge_an_empty_server() -> None:
    names = [entry.name for entry in watch.checks()]
    assert len(set(names)) == len(names)
    quiet = [entry for entry in watch.checks() if entry.name not in {"units", "clock", "images"}]
    found = watch.run_checks(quiet)
    assert [alarm for alarm in found.alarms if alarm.check != "disks"] == []
    assert found.unjudged == []


# --- telling ---------------------------------------------------------------------------------


def test_begin_and_end_are_told_once_each(told: list[events.Event]) -> None:
    for _ in range(3):
        report_look(seen(OLD))
    assert [(event.kind, event.title) for event in told] == [("failure", "X ends in 20 days.")]
    assert (told[0].hint, told[0].app) == ("`deploy.yml`", None)
    for _ in range(4):
        report_look(seen())
    assert [(event.kind, event.title) for event in told[1:]] == [
        ("recovered", "Recovered: x ends in 20 days.")
    ]


def test_what_comes_and_goes_is_told_once(told: list[events.Event]) -> None:
    for present in (True, False, True, False, True):
        report_look(seen(*([OLD] if present else [])))
    assert [event.kind for event in told] == ["failure"]


def test_warning_that_turns_red_is_told_again_but_not_one_that_gets_better(
    told: list[events.Event],
) -> None:
    red = Alarm(OLD.name, "red", "x ends in 9 days", "`deploy.yml`")
    for alarm in (OLD, red, red, OLD):
        report_look(seen(alarm))
    assert [event.error for event in told] == [
        "warning: x ends in 20 days",
        "red: x ends in 9 days",
    ]


def test_red_is_told_again_each_day_and_a_warning_is_not(told: list[events.Event]) -> None:
    report_look(seen(FULL, OLD))
    place = alarms.path(watch.SCOPE)
    memory = json.loads(place.read_text())
    for known in memory["told"].values():
        known["told_at"] = (NOW - timedelta(hours=25)).isoformat()
    place.write_text(json.dumps(memory))
    report_look(seen(FULL, OLD))
    assert told[1].details == f"red: {FULL.text()}"
    assert told[0].details == f"red: {FULL.text()}\nwarning: {OLD.text()}"
    assert told[0].title.endswith(", and 1 more.")


def test_check_that_could_not_be_judged_ends_no_alarm(told: list[events.Event]) -> None:
    report_look(seen(OLD))
    for _ in range(4):
        report_look(seen(unjudged=("certificates",)))
    assert [event.kind for event in told] == ["failure"]
    report_look(seen())
    report_look(seen())
    assert [event.kind for event in told] == ["failure", "recovered"]


def test_what_no_hook_took_is_told_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []

    def tell(event: events.Event) -> tuple[bool, tuple[str, ...]]:
        kinds.append(event.kind)
        return len(kinds) % 2 == 0, ("webhook x didn't answer.",)

    monkeypatch.setattr(events, "send", tell)
    for found in (seen(OLD), seen(OLD), seen(OLD), seen(), seen(), seen(), seen()):
        report_look(found)
    assert kinds == ["failure", "failure", "recovered", "recovered"]


def test_what_ended_before_it_could_be_told_is_not_recovered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds: list[str] = []

    def tell(event: events.Event) -> tuple[bool, tuple[str, ...]]:
        kinds.append(event.kind)
        return False, ()

    monkeypatch.setattr(events, "send", tell)
    for found in (seen(OLD), seen(), seen(), seen()):
        report_look(found)
    assert kinds == ["failure"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"told": {"x": 1}}', '{"told": {"x": {}}}'])
def test_damaged_memory_tells_all_again(told: list[events.Event], text: str) -> None:
    place = alarms.path(watch.SCOPE)
    place.parent.mkdir(parents=True)
    place.write_text(text)
    report_look(seen(OLD))
    report_look(seen(OLD))
    assert len(told) == 1


def test_disk_that_takes_no_file_silences_nothing(
    told: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", write)
    found = seen(FULL)
    watch.save(found)
    report_look(found)
    assert len(told) == 1


def test_hook_for_failures_hears_that_they_are_over() -> None:
    hook = hook_settings.Hook(events=("failure",), apps=None, timeout_seconds=1, command=("x",))
    other = hook_settings.Hook(events=("release",), apps=None, timeout_seconds=1, command=("x",))
    assert hook.wants("recovered", None)
    assert not other.wants("recovered", None)


# --- keeping and showing ---------------------------------------------------------------------


def kept(*found: Alarm, at: datetime = NOW) -> None:
    certificate = Certificate("postgres", NOW, NOW + timedelta(days=90), "d")
    place = certificates.Found("/etc/x.crt", "the certificate", "renew", certificate)
    counted = units.Units({"a.service": {"NRestarts": "4"}})
    watch.save(Look(at, list(found), [], {"certificates": [place], "units": counted}))


def test_metrics_have_the_last_look(root: Path) -> None:
    kept(FULL, OLD)
    (root / "var/lib/docker").mkdir(parents=True)
    collector = Collector(NOW)
    text = render(collector.gather())
    assert collector.errors == []
    end = (NOW + timedelta(days=90)).timestamp()
    assert 'bedstone_alarm{alarm="disks//",severity="red"} 1' in text
    assert 'bedstone_alarm{alarm="certificates//etc/x.crt",severity="warning"} 1' in text
    labels = 'place="/etc/x.crt",subject="postgres"'
    name = "bedstone_certificate_not_after_timestamp_seconds"
    shown = next(line for line in text.splitlines() if line.startswith(f"{name}{{{labels}}}"))
    assert abs(float(shown.split()[-1]) - end) < 1
    assert 'bedstone_problems{app=""} 1' in text


def test_next_look_counts_restarts_from_the_last_one() -> None:
    kept(at=NOW - timedelta(hours=1))
    kept()
    kept(at=NOW + timedelta(minutes=1))  # between the hourly ones: it takes none's place
    samples = units.samples_of((watch.last() or {})["samples"])
    assert [dict(sample.restarts) for sample in samples] == [{"a.service": 4}] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": 5}', '{"schema": 9, "at": "2026-01-01"}'])
def test_damaged_file_of_the_last_look_is_none(root: Path, text: str) -> None:
    place = root / "var/lib/bedstone/alarms/last.json"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    assert watch.last() is None


@pytest.mark.parametrize(
    ("hours", "up_hours", "stale"), [(1, 9, False), (4, 9, True), (4, 1, False), (None, 9, True)]
)
def test_look_that_stopped_is_an_alarm_itself(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    hours: int | None,
    up_hours: int,
    *,
    stale: bool,
) -> None:
    monkeypatch.setattr(watch, "_up_seconds", lambda: up_hours * 3600.0)
    if hours is not None:
        kept(at=NOW - timedelta(hours=hours))
    later = NOW + timedelta(hours=5)
    assert watch.stale(later) == [], "there is no timer"
    timer = root / "etc/systemd/system/bedstone-alarms.timer"
    timer.parent.mkdir(parents=True)
    timer.touch()
    now = later if hours is None else NOW
    if hours is not None:
        long_ago = (NOW - timedelta(days=9)).timestamp()
        os.utime(timer, (long_ago, long_ago))
    assert [alarm.severity for alarm in watch.stale(now)] == (["red"] if stale else [])


@pytest.mark.usefixtures("told")
def test_command_fails_for_red_alone_and_never_for_systemd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = seen(OLD)
    monkeypatch.setattr(watch, "run_checks", lambda: found)
    assert main.main(["alarms"]) == 0
    assert capsys.readouterr().out == "warning x ends in 20 days: `deploy.yml`\n"
    found.alarms.append(FULL)
    assert main.main(["alarms"]) == 1
    assert main.main(["alarms", "--tell"]) == 0
    capsys.readouterr()
    assert main.main(["alarms", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in shown["alarms"]] == [OLD.name, FULL.name]
    assert all(entry["since"] for entry in shown["alarms"])
    found.alarms.clear()
    assert main.main(["alarms"]) == 0
    assert "Nothing needs attention" in capsys.readouterr().out


def test_status_shows_red_as_a_problem_and_warnings_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = overview.Tools(alarms=lambda **_: seen(FULL, OLD))
    monkeypatch.setattr(overview, "Tools", lambda: tools)
    assert main.main(["status"]) == 0
    said = capsys.readouterr().out
    assert f"Warnings:\n  {OLD.text()}\n" in said
    assert said.endswith(f"Needs attention:\n  {FULL.text()}\n")
    main.main(["status", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["problems"] == [FULL.text()]
    assert [entry["severity"] for entry in shown["alarms"]] == ["red", "warning"]
