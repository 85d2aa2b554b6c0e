"""What is asked of journalctl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bedstone.core.errors import CommandError
from bedstone.core.process import Completed
from bedstone.system.systemd import Systemd, is_at_limit


class Journal:
    """Answers journalctl with what systemd said of a run."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        self.calls.append(list(argv))
        asked = "json" in argv
        return Completed(tuple(argv), 0, self.said if asked else "on fire\n", "", 0.0)


SEEN_AT_ITS_LIMIT = {
    "ActiveState": "failed",
    "Result": "exit-code",
    "Restart": "always",
    "NRestarts": "10",
    "StartLimitBurst": "10",
    "StartLimitIntervalUSec": "16min 40s",
}


@pytest.mark.parametrize(
    ("change", "is_limit"),
    [
        ({}, True),
        ({"Result": "start-limit-hit", "NRestarts": "0"}, True),
        ({"ActiveState": "activating"}, False),
        ({"NRestarts": "9"}, False),
        ({"Restart": "no"}, False),
        ({"StartLimitIntervalUSec": "0"}, False),
    ],
)
def test_limit_of_starts_is_told_by_the_count_too(
    change: dict[str, str], *, is_limit: bool
) -> None:
    assert is_at_limit(SEEN_AT_ITS_LIMIT | change) == is_limit


def test_lines_of_a_run_are_those_of_its_unit_since_it_began() -> None:
    first = json.dumps({"__REALTIME_TIMESTAMP": "1700000000250000"})
    journal = Journal(f"{first}\n{json.dumps({'__REALTIME_TIMESTAMP': '1700000009000000'})}\n")
    assert Systemd(journal).journal(["a.service"], invocation="abc") == "on fire\n"
    assert journal.calls[-1][-4:] == ["--unit", "a.service", "--since", "@1700000000.250000"]


def test_lines_of_a_run_end_where_the_next_one_begins() -> None:
    said = [
        {"UNIT": "a.service", "INVOCATION_ID": "abc", "__REALTIME_TIMESTAMP": "1700000000250000"},
        {"UNIT": "a.service", "__REALTIME_TIMESTAMP": "1700000001000000"},
        {"UNIT": "a.service", "INVOCATION_ID": "abc", "__REALTIME_TIMESTAMP": "1700000002000000"},
        {"UNIT": "a.service", "INVOCATION_ID": "def", "__REALTIME_TIMESTAMP": "1700000003500000"},
        {"UNIT": "a.service", "INVOCATION_ID": "ghi", "__REALTIME_TIMESTAMP": "1700000009000000"},
    ]
    journal = Journal("\n".join(map(json.dumps, said)))
    Systemd(journal).journal(["a.service"], invocation="abc")
    assert journal.calls[-1][-2:] == ["--until", "@1700000003.499999"]


def test_journald_that_does_not_answer_hides_nothing_else() -> None:
    def silent(argv: Sequence[str], **_: Any) -> Completed:
        raise CommandError(f"{argv[0]} took too long", returncode=None, output="")

    assert Systemd(silent).journal(["a.service"], invocation="abc") == ""


def test_run_whose_beginning_is_gone_is_found_by_its_id() -> None:
    journal = Journal("")
    Systemd(journal).journal(["a.service"], invocation="abc")
    assert "_SYSTEMD_INVOCATION_ID=abc" in journal.calls[-1]


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_unit_at_its_limit_of_starts_is_started(verb: str) -> None:
    calls: list[list[str]] = []

    def run(argv: Sequence[str], **_: Any) -> Completed:
        calls.append(list(argv))
        return Completed(tuple(argv), 0, "", "", 0.0)

    getattr(Systemd(run), verb)(["a.service", "b.service"], timeout=1)
    assert calls == [
        ["systemctl", "reset-failed", "a.service", "b.service"],
        ["systemctl", verb, "a.service", "b.service"],
    ]
