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
    kill = "docker kill bedstone-octoco-beat-1 > /dev/null 2>&1"
    # Between two starts there is no container: more turns than the ten of the document. A unit that
    # is started again has not failed.
    failed = f"systemctl is-failed --quiet {unit}"
    system.on_server(f"for _ in $(seq 300); do {failed} && break; {kill}; sleep 1; done; {failed}")

    def texts() -> list[str]:
        received = system.receiver.received
        return [body.decode() for path, body in received if path == "/slack"]

    waited_for("Slack hears of it", lambda: any(unit in text for text in texts()))
    assert len([text for text in texts() if unit in text]) == 1
    assert "bedstone restart octoco" in system.on_server("bedstone alarms || true")

    system.on_server("bedstone restart octoco")
    assert system.on_server(f"systemctl is-active {unit}").strip() == "active"
