"""What lies at a destination is judged there, not by what the sender says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bedstone.wal.info import Backup, Info
from bedstone.wal.observe import judge
from bedstone.wal.segments import Segment, name_of

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
BACKUP = Backup(
    label="20261120-010000F",
    type="full",
    started_at=NOW - timedelta(hours=2),
    finished_at=NOW - timedelta(hours=2),
    bytes=1,
    original_bytes=1,
    wal=(name_of(10, "00000001"), name_of(11, "00000001")),
    prior=None,
    damaged=False,
    database=1,
)
THERE = Info(exists=True, backups=(BACKUP,), archive="17-1")


def row(
    first: int, last: int, *, minutes_ago: float = 1, without: int | None = None
) -> list[Segment]:
    at = NOW - timedelta(minutes=minutes_ago)
    return [Segment(name_of(n, "00000001"), at) for n in range(first, last + 1) if n != without]


def found(
    info: Info = THERE, segments: list[Segment] | None = None, current: int = 16
) -> str | None:
    segments = row(8, 15) if segments is None else segments
    return judge(info, segments, name_of(current, "00000001"), NOW, 60)


def test_all_is_well() -> None:
    assert found() is None


def test_idle_server_sends_nothing_and_is_well() -> None:
    assert found(segments=row(8, 15, minutes_ago=600)) is None


def test_missing_repository_and_backup_are_told() -> None:
    assert "no repository" in (found(Info(exists=False)) or "")
    assert "no backup of the cluster yet" in (found(Info(exists=True)) or "")


def test_gap_after_the_newest_backup_is_told() -> None:
    said = found(segments=row(8, 15, without=13))
    assert said is not None
    assert "a gap: 1 segments from 00000001000000000000000D on" in said


def test_gap_before_the_newest_backup_is_history() -> None:
    assert found(segments=row(3, 15, without=9)) is None


def test_old_backup_is_told() -> None:
    old = replace(BACKUP, finished_at=NOW - timedelta(hours=50))
    assert found(replace(THERE, backups=(old,))) == "the last backup there is 2 days old"


@pytest.mark.parametrize(("minutes", "late"), [(2, False), (20, True)])
def test_wal_that_does_not_arrive_is_told(minutes: float, late: bool) -> None:  # noqa: FBT001
    said = found(segments=row(8, 12, minutes_ago=minutes), current=16)
    assert (said is not None) == late
    if late:
        assert said == "no WAL has arrived there for 20 minutes; 3 segments are missing"


def test_clock_that_jumped_back_is_no_fault_of_the_destination() -> None:
    assert found(segments=row(8, 12, minutes_ago=-6000), current=16) is None


def test_clock_that_is_ahead_there_hides_nothing() -> None:
    said = found(segments=row(8, 12, minutes_ago=-6000), current=60)
    assert said == "WAL doesn't arrive there: 47 segments are missing"


def test_backup_from_the_future_is_not_taken_for_a_new_one() -> None:
    old = replace(BACKUP, finished_at=NOW - timedelta(hours=50))
    future = replace(BACKUP, label="20301120-010000F", finished_at=NOW + timedelta(days=1461))
    assert found(replace(THERE, backups=(old, future))) == "the last backup there is 2 days old"


def test_backups_that_are_all_from_the_future_are_told() -> None:
    future = replace(BACKUP, label="20301120-010000F", finished_at=NOW + timedelta(days=2))
    assert found(replace(THERE, backups=(future,))) == (
        "the last backup there is 2 days ahead of this server's clock: is that right?"
    )
