"""The timers run after a convergence, each at its hour; in the other modules they are stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    """Leave them alone here."""


@pytest.mark.parametrize(("name", "days"), [("full", "Sun"), ("incremental", "Mon..Sat")])
def test_timer_waits_for_its_hour(host: Host, name: str, days: str) -> None:
    timer = host.service(f"bedstone-wal-{name}.timer")
    assert timer.is_enabled
    assert timer.is_running
    shown = host.check_output(f"systemctl cat bedstone-wal-{name}.timer").splitlines()
    assert "Persistent=true" in shown
    assert f"OnCalendar={days} *-*-* 05:00:00" in shown
