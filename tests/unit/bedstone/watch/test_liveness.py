"""Services that were restarted because they didn't answer any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedstone.apps.liveness import Restart
from bedstone.core import paths
from bedstone.watch import liveness, units

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
UNIT = "bedstone-shop-web@blue.service"
WORDS = "It doesn't answer any more (3 liveness probes in a row failed: no answer from port 8000)"


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    paths.app_config("shop").parent.mkdir(parents=True)
    paths.app_config("shop").write_text("{}")


def restarts(*minutes: int) -> list[Restart]:
    return [Restart(UNIT, NOW - timedelta(minutes=minute), WORDS) for minute in minutes]


def test_a_restart_is_a_warning_with_the_reason() -> None:
    (alarm,) = liveness.judge(restarts(1), NOW)
    assert (alarm.name, alarm.severity, alarm.app) == (f"liveness/{UNIT}", "warning", "shop")
    assert alarm.words == f"{UNIT} was restarted once in two hours, last at 11:59:00 UTC. {WORDS}"
    assert alarm.command == f"`journalctl -u {UNIT} -n 50` shows what it did before"


def test_restarts_that_do_not_help_are_red() -> None:
    (alarm,) = liveness.judge(restarts(90, 30, 2), NOW)
    assert alarm.severity == "red"
    assert "3 times" in alarm.words


def test_old_ones_are_over_and_none_is_well() -> None:
    assert list(liveness.judge(restarts(121), NOW)) == []
    assert liveness.gather() == []


def test_what_is_recorded_is_gathered() -> None:
    directory = paths.runtime() / "liveness"
    directory.mkdir(parents=True)
    now = datetime.now(UTC)
    text = f"damaged\n{now.timestamp():.0f} {WORDS}\n"
    (directory / UNIT).write_text(text)
    (directory / f"{UNIT}.tmp").write_text(text)
    (found,) = liveness.gather()
    assert (found.unit, found.words) == (UNIT, WORDS)


def test_looks_between_the_hourly_ones_push_out_no_sample() -> None:
    samples: list[units.Sample] = []
    for minute in (0, 60, 61, 62, 63, 64, 120):
        sample = units.Sample(NOW + timedelta(minutes=minute), {UNIT: minute})
        samples = units.kept(samples, sample)
    assert [sample.restarts[UNIT] for sample in samples] == [0, 60, 120]
