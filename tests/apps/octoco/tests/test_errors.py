"""What leaves for Sentry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octoco.errors import scrubbed

if TYPE_CHECKING:
    from sentry_sdk.types import Event

ADDRESS = "ada@example.com"


def test_event_keeps_what_failed_and_not_for_whom() -> None:
    frame = {"function": "failures", "lineno": 7, "vars": {"address": ADDRESS}}
    event: Event = {
        "level": "error",
        "user": {"email": ADDRESS},
        "request": {"method": "POST", "data": {"address": ADDRESS}},
        "exception": {
            "values": [
                {
                    "type": "RuntimeError",
                    "value": f"no deposit of {ADDRESS}",
                    "stacktrace": {"frames": [frame]},
                }
            ]
        },
    }
    kept = scrubbed(event, {})
    assert ADDRESS not in str(kept)
    assert kept["request"] == {"method": "POST"}
    (error,) = kept["exception"]["values"]
    assert error["value"] == "no deposit of [address]"
    assert error["stacktrace"]["frames"] == [{"function": "failures", "lineno": 7}]
