"""Services that are down, have failed, or crash again and again."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone.notify.alarms import Alarm
from bedstone.system.systemd import Systemd
from bedstone.watch import units
from bedstone.watch.units import Sample, Units

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
UP = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "0"}
ENABLED = {"UnitFileState": "enabled"}
DOWN = UP | ENABLED | {"ActiveState": "inactive"}
FAILED = UP | {
    "ActiveState": "failed",
    "Result": "exit-code",
    "ExecMainStatus": "3",
    "SubState": "failed",
}
WEB = "bedstone-pay-ments-web@blue.service"


def judged(shown: dict[str, dict[str, str]], *samples: Sample, **more: Any) -> list[Alarm]:
    needed = ["nginx.service", "postgresql@17-main.service"]
    apps = {"pay-ments": {"web", "celery-worker"}}
    return list(units.judge(Units(shown, needed, samples, **more, apps=apps), NOW))


def sample(hours: float, **restarts: int) -> Sample:
    return Sample(
        NOW - hours * HOUR, {f"{name}.service": count for name, count in restarts.items()}
    )


def test_all_well_is_silent() -> None:
    shown = {"nginx.service": UP | ENABLED, "postgresql@17-main.service": UP, "cron.service": UP}
    assert judged(shown, sample(1)) == []


def test_postgresql_that_is_stopped_is_red_with_the_command() -> None:
    [alarm] = judged({"postgresql@17-main.service": UP | {"ActiveState": "inactive"}})
    assert (alarm.name, alarm.severity) == ("units/postgresql@17-main.service", "red")
    assert "PostgreSQL (postgresql@17-main.service) doesn't run (inactive)" in alarm.words
    assert "`systemctl start postgresql@17-main.service`" in alarm.command


def test_what_is_not_there_or_was_switched_off_is_silent() -> None:
    down = UP | {"ActiveState": "inactive"}
    assert judged({"nginx.service": down | {"UnitFileState": "disabled"}}) == []
    assert judged({"nginx.service": {"LoadState": "not-found", "ActiveState": "inactive"}}) == []
    [alarm] = judged({"nginx.service": down | ENABLED})
    assert alarm.severity == "red"


def test_service_that_is_being_restarted_or_has_yet_to_begin_is_silent() -> None:
    assert judged({"nginx.service": DOWN | {"ActiveState": "deactivating"}}) == []
    assert judged({"nginx.service": DOWN | {"Job": "1234"}}) == []
    assert judged({"nginx.service": DOWN}, fresh=["nginx.service"]) == []
    assert len(judged({"nginx.service": DOWN | {"Job": ""}})) == 1


def test_unit_that_was_just_laid_out_is_fresh_until_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    (tmp_path / "nginx.service").touch()
    shown = DOWN | {"ActiveEnterTimestampMonotonic": "0", "FragmentPath": "/nginx.service"}

    class Shown(Systemd):
        def properties(self, *_: object, **__: object) -> dict[str, dict[str, str]]:
            return {"nginx.service": shown}

    def fresh() -> list[str]:
        return list(units.gather([], Shown()).fresh)

    assert fresh() == ["nginx.service"]
    shown["ActiveEnterTimestampMonotonic"] = "17"
    assert fresh() == []
    shown["ActiveEnterTimestampMonotonic"] = "0"
    hour_ago = time.time() - 3600
    os.utime(tmp_path / "nginx.service", (hour_ago, hour_ago))
    assert fresh() == []
    shown["FragmentPath"] = "/gone.service"
    assert fresh() == []


def test_failed_unit_is_a_warning_unless_its_hook_was_told() -> None:
    [alarm] = judged({"logrotate.service": FAILED})
    assert (alarm.severity, alarm.words) == (
        "warning",
        "logrotate.service has failed: it ended with exit code 3",
    )
    told = FAILED | {"OnFailure": "bedstone-failed@bedstone-backup.service.service"}
    assert judged({"bedstone-backup.service": told}) == []


def test_start_limit_is_red_with_the_command_that_starts_it_in_spite_of_it() -> None:
    [alarm] = judged({"x.service": FAILED | {"Result": "start-limit-hit"}})
    assert alarm.severity == "red"
    assert "`systemctl reset-failed x.service && systemctl start x.service`" in alarm.command


def test_service_at_its_limit_of_restarts_is_red_though_its_hook_was_told() -> None:
    told = {"OnFailure": f"bedstone-failed@{WEB}.service", "Result": "start-limit-hit"}
    # Not "crashes again and again": it doesn't any more.
    [alarm] = judged({WEB: FAILED | told | {"NRestarts": "9"}}, Sample(NOW - HOUR, {WEB: 0}))
    assert (alarm.severity, alarm.app) == ("red", "pay-ments")
    assert alarm.words == f"{WEB} stays stopped: it failed too often in a row"
    assert "`bedstone restart pay-ments` starts it again" in alarm.command


def test_containers_machine_units_are_left_out_in_a_container_alone() -> None:
    shown = {"systemd-modules-load.service": FAILED}
    assert judged(shown, container=True) == []
    assert len(judged(shown)) == 1


def test_crash_loop_is_red_by_what_was_counted_since() -> None:
    shown = {WEB: UP | {"NRestarts": "9"}}
    before = Sample(NOW - HOUR, {WEB: 2})
    [alarm] = judged(shown, before)
    assert alarm.severity == "red"
    assert (
        f"{WEB} crashes again and again: systemd has restarted it 7 times in 1 hour" in alarm.words
    )
    assert "`bedstone rollback pay-ments`" in alarm.command


def test_crash_loop_of_a_service_with_a_dash_names_its_app() -> None:
    unit = "bedstone-pay-ments-celery-worker@1.service"
    [alarm] = judged({unit: UP | {"NRestarts": "9"}}, Sample(NOW - HOUR, {unit: 2}))
    assert alarm.app == "pay-ments"
    assert "`bedstone rollback pay-ments`" in alarm.command


def test_crash_loop_waits_for_its_third_restart_and_is_over_after_two_hours() -> None:
    shown = {WEB: UP | {"NRestarts": "9"}}
    assert judged(shown, Sample(NOW - HOUR, {WEB: 7})) == []
    assert judged(shown, Sample(NOW - 3 * HOUR, {WEB: 0}), Sample(NOW - HOUR, {WEB: 9})) == []
    # Started by a person, so counted from 0 again.
    assert judged({WEB: UP | {"NRestarts": "1"}}, Sample(NOW - HOUR, {WEB: 9})) == []


def test_first_look_at_an_old_server_raises_no_alarm_but_sees_a_loop_that_runs() -> None:
    assert judged({WEB: UP | {"NRestarts": "50"}}) == []
    looping = {"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "50"}
    assert len(judged({WEB: UP | looping})) == 1


def test_clock_that_was_set_back_is_no_loop() -> None:
    assert judged({WEB: UP | {"NRestarts": "9"}}, Sample(NOW + HOUR, {WEB: 0})) == []


def test_samples_survive_being_kept_and_the_old_ones_go() -> None:
    old, recent = sample(3, x=1), sample(1, x=2)
    new = Units({"x.service": UP | {"NRestarts": "4"}, "y.service": UP}).sample(NOW)
    assert new.restarts == {"x.service": 4}
    kept = units.kept([old, recent], new)
    assert units.samples_of([entry.as_json() for entry in kept]) == [recent, new]
    for damaged in (None, [1], [{"at": "x", "restarts": {}}], [{"at": NOW.isoformat()}], 5):
        assert units.samples_of(damaged) == []
