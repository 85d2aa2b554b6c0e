"""The piggy bank's limit of restarts: ten in a row, and then a person has to look."""

from __future__ import annotations

import pytest

from tests.seeds.conftest import System, waited_for

pytestmark = [
    pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True),
    # Alarms remember crashes for hours.
    pytest.mark.leaves_traces,
]


def test_beat_that_ends_again_and_again_stays_stopped_until_it_is_restarted(system: System) -> None:
    unit = "bedstone-octoco-beat@1.service"
    states = f"systemctl show --property=ActiveState,Result {unit}"
    kill = "docker kill bedstone-octoco-beat-1 > /dev/null 2>&1"
    # Between two starts there is no container: more turns than the ten of the document.
    at_limit = f"{states} | grep -qx Result=start-limit-hit"
    system.on_server(f"for _ in $(seq 300); do {kill}; {at_limit} && break; sleep 1; done")
    told = system.on_server(states).split()
    assert sorted(told) == ["ActiveState=failed", "Result=start-limit-hit"]

    def texts() -> list[str]:
        received = system.receiver.received
        return [body.decode() for path, body in received if path == "/slack"]

    waited_for("Slack hears of it", lambda: any(unit in text for text in texts()))
    assert len([text for text in texts() if unit in text]) == 1
    assert "bedstone restart octoco" in system.on_server("bedstone alarms || true")

    system.on_server("bedstone restart octoco")
    assert sorted(system.on_server(states).split()) == ["ActiveState=active", "Result=success"]
