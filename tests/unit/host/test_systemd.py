"""What is asked of journalctl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bedstone.run import Completed
from bedstone.systemd import Systemd


class Journal:
    """Answers journalctl with what systemd said of a run."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        self.calls.append(list(argv))
        asked = "json" in argv
        return Completed(tuple(argv), 0, self.said if asked else "on fire\n", "", 0.0)


def test_lines_of_a_run_are_those_of_its_unit_since_it_began() -> None:
    first = json.dumps({"__REALTIME_TIMESTAMP": "1700000000250000"})
    journal = Journal(f"{first}\n{json.dumps({'__REALTIME_TIMESTAMP': '1700000009000000'})}\n")
    assert Systemd(journal).journal(["a.service"], invocation="abc") == "on fire\n"
    assert journal.calls[-1][-4:] == ["--unit", "a.service", "--since", "@1700000000.250000"]


def test_run_whose_beginning_is_gone_is_found_by_its_id() -> None:
    journal = Journal("")
    Systemd(journal).journal(["a.service"], invocation="abc")
    assert "_SYSTEMD_INVOCATION_ID=abc" in journal.calls[-1]
