"""What converge asks of systemd."""

from __future__ import annotations

from typing import Any

import pytest
from bedstone_run import Ended
from bedstone_units import act


@pytest.mark.parametrize("action", ["start", "restart"])
def test_a_wanted_start_is_not_refused_because_there_were_many(action: str) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Ended:
        calls.append(command)
        return Ended(0, "", "")

    act(action, "docker.service", run, str)
    assert calls == [
        ["systemctl", "reset-failed", "--", "docker.service"],
        ["systemctl", action, "--", "docker.service"],
    ]
