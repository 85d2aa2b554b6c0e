"""What the drill fails at, and what it counts as lost by the order of things."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.drill import judge
from tests.drill.judge import SEGMENT_BYTES, Before, Write

SUM = "0123456789abcdef0123456789abcdef01234567"


def segment(number: int, timeline: int = 1, suffix: str = ".zst") -> str:
    return f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}-{SUM}{suffix}"


def before(*positions: int, archived: int, backed_up: tuple[str, ...] = ("a",)) -> Before:
    writes = [Write(f"w{n}", position, 100.0 + n) for n, position in enumerate(positions)]
    names = [segment(number) for number in range(archived)]
    return Before(
        killed_at=110.0,
        writes=writes,
        sent={write.id for write in writes} | {"asked"},
        due=judge.archived(writes, names),
        undone=frozenset(),
        uploads={"a": "1", "b": "2"},
        backed_up=backed_up,
    )


@pytest.mark.parametrize(
    ("text", "place"), [("0/0", 0), ("0/3000148", 0x3000148), ("2/1", (2 << 32) + 1)]
)
def test_places_in_the_log_are_read_as_postgresql_writes_them(text: str, place: int) -> None:
    assert judge.position(text) == place


def test_the_log_can_be_had_up_to_the_end_of_the_last_segment() -> None:
    names = [segment(3), segment(4), segment(5, suffix="")]
    assert judge.archived_end(names) == 6 * SEGMENT_BYTES


def test_a_gap_ends_what_can_be_had() -> None:
    assert judge.archived_end([segment(3), segment(4), segment(6)]) == 5 * SEGMENT_BYTES


def test_segments_go_on_over_the_end_of_a_log() -> None:
    assert judge.archived_end([segment(255), segment(256)]) == 257 * SEGMENT_BYTES


def test_what_is_no_segment_is_no_log() -> None:
    others = ["archive.info", "00000002.history", f"{segment(1)[:24]}.00000028.backup"]
    assert judge.archived_end(others) == 0


def test_what_came_after_the_last_archived_segment_is_lost_and_counted() -> None:
    verdict = judge.judge(
        before(1, SEGMENT_BYTES, SEGMENT_BYTES + 1, archived=1), {"w0", "w1"}, {"a": "1"}
    )
    assert verdict.problems == []
    assert (verdict.acknowledged, verdict.surviving, verdict.lost) == (3, 2, 1)
    assert verdict.uploads_lost == 1
    assert verdict.recovery_point_seconds == 9.0
    assert verdict.lost_seconds == 8.0


def test_it_fails_when_an_archived_entry_is_missing() -> None:
    verdict = judge.judge(before(1, 2, archived=1), {"w1"}, {"a": "1"})
    assert [problem for problem in verdict.problems if "1 entries that were archived" in problem]


def test_it_fails_when_an_upload_that_was_backed_up_is_missing() -> None:
    verdict = judge.judge(before(1, archived=1), {"w0"}, {"b": "2"})
    assert verdict.problems == ["1 uploads that were backed up are missing: a"]


def test_it_fails_when_an_upload_came_back_as_something_else() -> None:
    verdict = judge.judge(before(1, archived=1), {"w0"}, {"a": "other"})
    assert verdict.problems == ["1 uploads aren't what was uploaded: a"]


def test_it_fails_when_entries_are_there_that_nobody_asked_for() -> None:
    verdict = judge.judge(before(1, archived=1), {"w0", "asked", "ghost"}, {"a": "1"})
    assert verdict.problems == ["1 entries are there that nobody wrote: ghost"]


def test_it_fails_when_nothing_was_archived() -> None:
    verdict = judge.judge(before(1, archived=0), set(), {"a": "1"})
    assert "nothing at all" in verdict.problems[0]


def test_it_fails_when_entries_are_there_that_came_after_the_moment() -> None:
    moment = replace(before(1, 2, archived=1), undone={"w1"})
    verdict = judge.judge(moment, {"w0", "w1"}, {"a": "1"})
    assert verdict.problems == ["1 entries are there that came after the moment: w1"]


def test_nothing_lost_is_no_time_lost() -> None:
    verdict = judge.judge(before(1, archived=1), {"w0"}, {"a": "1", "b": "2"})
    assert (verdict.lost, verdict.lost_seconds) == (0, 0.0)
