"""Bedstone's own timers that don't wait."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedstone.system.systemd import Systemd
from bedstone.watch import timers
from tests.unit.fixtures.daily import root

__all__ = ["root"]

NOW = datetime.now(UTC)


class Manager(Systemd):
    """Tells of the units that it is asked for."""

    def __init__(self, **states: str) -> None:
        super().__init__()
        self.told = states

    def properties(
        self, units: Sequence[str], names: Sequence[str], *, timeout: float = 60
    ) -> dict[str, dict[str, str]]:
        del names, timeout
        shown = {}
        for unit in units:
            active, file = self.told[unit.removesuffix(".timer").replace("-", "_")].split()
            shown[unit] = {"Id": unit, "ActiveState": active, "UnitFileState": file}
        return shown


@pytest.fixture
def installed(root: Path) -> Path:
    directory = root / "etc/systemd/system"
    directory.mkdir(parents=True)
    for name in ("bedstone-backup.timer", "bedstone-verify.timer", "bedstone-backup.service"):
        (directory / name).touch()
    (directory / "other.timer").touch()
    return directory


def test_timers_that_wait_and_those_that_a_role_disabled_are_right(installed: Path) -> None:
    del installed
    manager = Manager(
        bedstone_backup="active enabled",
        bedstone_verify="inactive disabled",
    )
    assert list(timers.judge(timers.gather(manager), NOW)) == []


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_stopped_timer_is_red_with_its_command(installed: Path, state: str) -> None:
    del installed
    manager = Manager(bedstone_backup=f"{state} enabled", bedstone_verify="active enabled")
    (alarm,) = timers.judge(timers.gather(manager), NOW)
    assert (alarm.name, alarm.severity) == ("timers/bedstone-backup.timer", "red")
    assert f"bedstone-backup.timer is off ({state})" in alarm.words
    assert "`systemctl start bedstone-backup.timer`" in alarm.command


def test_server_without_timers_asks_nothing(root: Path) -> None:
    del root
    assert timers.gather() == {}
