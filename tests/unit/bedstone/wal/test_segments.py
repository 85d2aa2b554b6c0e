"""Gaps in a row of WAL segments are found, across logs and timelines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bedstone.wal.segments import missing, name_of, number, segment_of


def test_segment_of_an_archived_file() -> None:
    digest = "0123456789abcdef0123456789abcdef01234567"
    path = f"0000000100000000/000000010000000000000002-{digest}.zst"
    assert segment_of(path) == "000000010000000000000002"
    assert segment_of(f"000000010000000000000002-{digest}") == "000000010000000000000002"


def test_other_files_of_an_archive_are_no_segments() -> None:
    for path in ("00000002.history", "000000010000000000000002.00000028.backup", "archive.info"):
        assert segment_of(path) is None


def test_last_segment_of_a_log_is_followed_by_the_next_log() -> None:
    assert number("0000000100000000000000FF") + 1 == number("000000010000000100000000")


@given(st.integers(0, 2**36))
def test_name_and_number_agree(place: int) -> None:
    assert number(name_of(place, "00000003")) == place


def test_no_gap() -> None:
    names = [name_of(place, "00000001") for place in range(250, 260)]
    assert missing(names, names[0]) == ()
    assert missing(names, names[4]) == ()


def test_gap_is_named() -> None:
    names = [name_of(place, "00000001") for place in (254, 255, 257, 260)]
    assert missing(names, names[0]) == (
        "000000010000000100000000",
        "000000010000000100000002",
        "000000010000000100000003",
    )


def test_what_came_before_the_backup_is_of_no_interest() -> None:
    names = [name_of(place, "00000001") for place in (3, 9, 10)]
    assert missing(names, name_of(9, "00000001")) == ()


def test_first_one_itself_may_be_missing() -> None:
    names = [name_of(place, "00000001") for place in (11, 12)]
    assert missing(names, name_of(10, "00000001")) == (name_of(10, "00000001"),)


def test_nothing_archived_since_is_the_first_one_missing() -> None:
    first = name_of(10, "00000001")
    assert missing([], first) == (first,)


def test_promoted_cluster_goes_on_upon_another_timeline() -> None:
    names = [name_of(5, "00000001"), name_of(6, "00000002"), name_of(7, "00000002")]
    assert missing(names, names[0]) == ()
