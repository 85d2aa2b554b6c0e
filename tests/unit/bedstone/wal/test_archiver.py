"""When archiving isn't as it should be, status says what and where to look."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone.wal import archiver

WELL: dict[str, Any] = {
    "mode": "on",
    "command": "pgbackrest --stanza=main archive-push %p",
    "segment_bytes": 16 * 1024 * 1024,
    "archived": "000000010000000000000007",
    "archived_seconds": 20.0,
    "failed": None,
    "failed_seconds": None,
    "failing": False,
    "ready": 0,
    "ready_seconds": None,
}


def problem(**changes: Any) -> str | None:
    return archiver.judge({**WELL, **changes}, 60).problem


def test_all_is_well() -> None:
    assert problem() is None


def test_old_failure_is_history() -> None:
    assert problem(failed="000000010000000000000003", failed_seconds=4000.0) is None


def test_idle_server_has_nothing_to_archive() -> None:
    assert problem(archived_seconds=1_000_000.0) is None


def test_segment_that_has_just_been_ended_is_no_fault() -> None:
    assert problem(ready=1, ready_seconds=5.0) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"failing": True, "failed": "000000010000000000000008", "failed_seconds": 30.0,
             "ready": 3, "ready_seconds": 200.0},
            "000000010000000000000008 could not be sent",
        ),
        ({"ready": 2, "ready_seconds": 400.0}, "2 segments wait, the oldest for 6 minutes"),
        ({"ready": 33, "ready_seconds": 10.0}, "more slowly than it is written"),
        ({"mode": "off"}, "`archive_mode` is off"),
        ({"command": ""}, "`archive_mode` is off"),
    ],
)  # fmt: skip
def test_trouble_is_told(changes: dict[str, Any], words: str) -> None:
    found = problem(**changes)
    assert found is not None
    assert words in found
    assert "`" in found, "says where to look or what to do"


def test_waiting_segments_are_told_as_bytes() -> None:
    found = archiver.judge({**WELL, "ready": 3, "ready_seconds": 1.0}, 60)
    assert found.waiting_bytes == 3 * 16 * 1024 * 1024
    assert found.as_json()["ready"] == 3
