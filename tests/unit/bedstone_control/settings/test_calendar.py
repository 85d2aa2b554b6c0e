"""Times that a night of daylight saving leaves out."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import TZPATH, available_timezones

import pytest

from bedstone_control.roles import registry
from bedstone_control.settings import calendar
from bedstone_control.settings.backup import Backup
from tests.unit.bedstone_control.roles import test_arguments_jobs_and_hooks as jobs_and_hooks
from tests.unit.fixtures.sites import Site

ARGUMENTS = registry.arguments()


def _rules(zone: str) -> bytes:
    """Return a zone's rules as its file has them; half of the names are for rules of another."""
    files = (Path(directory, zone) for directory in TZPATH)
    return next((file.read_bytes() for file in files if file.is_file()), zone.encode())


_NAMES = sorted(zone for zone in available_timezones() if not zone.startswith(("posix/", "right/")))
ZONES = sorted({_rules(zone): zone for zone in _NAMES}.values())


@pytest.mark.parametrize(
    ("zone", "time", "missing"),
    [
        ("Europe/Berlin", "02:30", True),
        ("Europe/Berlin", "02:00", True),
        ("Europe/Berlin", "03:00", False),
        ("Europe/Berlin", "01:59", False),
        ("America/New_York", "02:30", True),
        ("Europe/London", "01:30", True),
        ("Europe/Helsinki", "03:30", True),
        ("America/Santiago", "00:15", True),
        ("Australia/Lord_Howe", "02:15", True),
        ("Australia/Lord_Howe", "02:45", False),
        ("Asia/Kolkata", "02:30", False),
        ("Etc/UTC", "02:30", False),
    ],
)
def test_time_that_a_night_leaves_out_is_found(zone: str, time: str, *, missing: bool) -> None:
    assert (calendar.missing_on(zone, time) is not None) is missing


def test_default_time_exists_every_day_in_every_zone() -> None:
    default = Backup.model_validate({}).time
    assert default == calendar.ALWAYS_THERE
    assert [zone for zone in ZONES if calendar.missing_on(zone, default)] == []


@pytest.mark.parametrize(
    ("schedule", "missing"),
    [
        ("daily", False),
        ("*-*-* 02:30:00", True),
        ("02:30", True),
        ("14,2:30", True),
        ("Sun 02:30", True),
        ("Sat..Mon *-*-* 02:30", True),
        ("Mon..Fri 02:30", False),
        ("*-*-01 02:30:00", False),
        ("*-*-* 02:30:00 UTC", False),
        ("*-*-* *:00/15", False),
        ("hourly", False),
        ("", False),
    ],
)
def test_schedule_with_a_time_that_a_night_leaves_out_is_found(
    schedule: str, *, missing: bool
) -> None:
    assert (calendar.schedule_missing_on("Europe/Berlin", schedule) is not None) is missing


def test_midnight_is_left_out_in_chile() -> None:
    assert calendar.schedule_missing_on("America/Santiago", "daily") is not None


def test_what_follows_the_backup_exists_every_day_too() -> None:
    for zone in ZONES:
        made = jobs_and_hooks.site(timezone=zone)
        schedules = [
            ARGUMENTS["pgbackrest_full_schedule"](made),
            ARGUMENTS["pgbackrest_incremental_schedule"](made),
            ARGUMENTS["backup_verify_schedule"](made),
        ]
        assert [text for text in schedules if calendar.schedule_missing_on(zone, text)] == [], zone


def test_backup_at_a_time_that_is_left_out_is_refused(site: Site) -> None:
    site.settings["bedstone_timezone"] = "Europe/Berlin"
    site.settings["bedstone_backup"] = {"time": "02:30", "verify_schedule": "Sun 02:15"}
    time, schedule = site.check()
    assert time.where == "bedstone_backup.time"
    assert "the time 02:30 doesn't exist on" in time.message
    assert "no backup that night" in time.message
    assert "04:00" in time.example
    assert schedule.where == "bedstone_backup.verify_schedule"


def test_job_at_a_time_that_is_left_out_is_refused(site: Site) -> None:
    site.settings["bedstone_timezone"] = "America/New_York"
    site.other["jobs"] = {"tidy": {"command": "tidy", "schedule": "*-*-* 02:15:00"}}
    (problem,) = site.check()
    assert problem.where.endswith(".jobs.tidy.schedule")
    assert "02:15" in problem.message
