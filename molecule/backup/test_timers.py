"""The timers run after a convergence, each at its hour; in the other modules they are stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

SCHEDULES = {
    "bedstone-backup": "*-*-* 04:00:00",
    "bedstone-verify": "Sun *-*-* 06:00:00",
    "bedstone-destinations": "hourly",
    "bedstone-uploads": "*:0/5",
}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    """Leave them alone here."""


@pytest.mark.parametrize("unit", SCHEDULES)
def test_timer_waits_for_its_hour(host: Host, unit: str) -> None:
    timer = host.service(f"{unit}.timer")
    assert timer.is_enabled
    assert timer.is_running
    shown = host.check_output(f"systemctl cat {unit}.timer").splitlines()
    assert f"OnCalendar={SCHEDULES[unit]}" in shown
    assert "Persistent=true" in shown


def test_units_are_sound(host: Host) -> None:
    units = [f"{unit}.{kind}" for unit in SCHEDULES for kind in ("service", "timer")]
    done = host.run(f"systemd-analyze verify bedstone-copy.service {' '.join(units)}")
    assert done.rc == 0, done.stderr
    assert "bedstone-" not in done.stderr
