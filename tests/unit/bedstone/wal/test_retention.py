"""Which chains of WAL backups stay, whatever the clock and the backups are like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bedstone.wal.info import Backup
from bedstone.wal.retention import full_backups_to_keep

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


def full(days_ago: float, *, damaged: bool = False) -> Backup:
    at = NOW - timedelta(days=days_ago)
    return Backup(
        label=f"{at:%Y%m%d-%H%M%S}F",
        type="full",
        started_at=at,
        finished_at=at + timedelta(minutes=10),
        bytes=1,
        original_bytes=1,
        wal=("000000010000000000000001", "000000010000000000000001"),
        prior=None,
        damaged=damaged,
        database=1,
    )


def incremental(upon: Backup, days_ago: float) -> Backup:
    at = NOW - timedelta(days=days_ago)
    return Backup(
        label=f"{upon.label}_{at:%Y%m%d-%H%M%S}I",
        type="incr",
        started_at=at,
        finished_at=at + timedelta(minutes=1),
        bytes=1,
        original_bytes=1,
        wal=upon.wal,
        prior=upon.label,
        damaged=False,
        database=1,
    )


def keep(
    *backups: Backup, now: datetime = NOW, days: int = 7, at_least: int = 2, verified: str = ""
) -> int:
    return full_backups_to_keep(
        backups, now, keep_days=days, keep_full=at_least, verified={verified}
    )


def test_weekly_backups_keep_what_reaches_back_a_week() -> None:
    # 10 days ago is the newest from which 7 days ago can be reached.
    assert keep(full(24), full(17), full(10), full(3)) == 2
    # It was yesterday's that made the third necessary: 8 days ago reaches.
    assert keep(full(22), full(15), full(8), full(1), full(0.5)) == 3


def test_daily_backups_keep_a_week_of_them() -> None:
    assert keep(*(full(days) for days in range(1, 15))) == 8


def test_two_chains_stay_however_old_they_are() -> None:
    assert keep(full(400), full(300), full(200)) == 2


def test_nothing_goes_until_a_week_can_be_reached() -> None:
    assert keep(full(5), full(4), full(3), full(2)) == 4


def test_chain_of_the_newest_verified_backup_stays() -> None:
    old = full(50)
    proved = incremental(old, 46)
    backups = [full(60), old, proved, full(40), full(30), full(20)]
    assert keep(*backups, verified=proved.label) == 4
    assert keep(*backups) == 2


def test_only_the_newest_verified_one_counts() -> None:
    backups = [full(days) for days in (60, 50, 40, 30, 20)]
    found = full_backups_to_keep(
        backups, NOW, keep_days=7, keep_full=2, verified={backups[0].label, backups[3].label}
    )
    assert found == 2


def test_backup_with_damaged_pages_replaces_none() -> None:
    assert keep(full(30), full(20), full(10), full(1, damaged=True)) == 3


def test_backup_from_the_future_replaces_none() -> None:
    assert keep(full(30), full(20), full(10), full(-3)) == 3


def test_clock_that_jumped_ahead_empties_nothing() -> None:
    backups = [full(9), full(8), full(2), full(1)]
    assert keep(*backups, now=NOW + timedelta(days=4000)) == 2


def test_clock_that_jumped_back_empties_nothing() -> None:
    backups = [full(9), full(8), full(2), full(1)]
    assert keep(*backups, now=NOW - timedelta(days=4000)) == 4


def test_nothing_there_keeps_the_least() -> None:
    assert keep() == 2
    assert keep(at_least=1) == 1


ages = st.lists(st.integers(-30, 400), max_size=12, unique=True)


@given(ages, st.integers(0, 30), st.integers(1, 5), st.integers(-400, 400))
def test_any_moment_that_could_be_reached_before_can_be_reached_after(
    days_ago: list[int], days: int, at_least: int, jump: int
) -> None:
    backups = sorted((full(age) for age in days_ago), key=lambda found: found.label)
    now = NOW + timedelta(days=jump)
    number = full_backups_to_keep(backups, now, keep_days=days, keep_full=at_least)
    kept = backups[-number:]
    assert len(kept) >= min(at_least, len(backups))
    moment = now - timedelta(days=days)
    while moment <= now:
        reached = any(found.finished_at <= moment for found in backups)
        assert any(found.finished_at <= moment for found in kept) == reached
        moment += timedelta(hours=11)
