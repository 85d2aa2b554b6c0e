"""Which state of an app's uploads fits a moment, and which are obsolete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bedstone.ledger.kinds import DUMP, MEDIA, UPLOADS
from bedstone.offsite import uploads
from bedstone.storage.restic import Snapshot

NOW = datetime.now(UTC).replace(hour=12, minute=0)


def at(days_ago: float) -> datetime:
    return NOW - timedelta(days=days_ago)


def copy(days_ago: float, app: str = "payments") -> Snapshot:
    """Uploads that were copied between backups."""
    return Snapshot(f"copy-{days_ago:g}", at(days_ago), {"app": app, "kind": UPLOADS})


def night(days_ago: float, *, whole: bool = True, app: str = "payments") -> list[Snapshot]:
    """A backup with its uploads; one that isn't whole has these alone."""
    name = f"backup_{days_ago:g}"
    tags = {"app": app, "backup": name}
    media = Snapshot(f"night-{days_ago:g}", at(days_ago), {**tags, "kind": MEDIA}, (), name)
    dump = {**tags, "kind": DUMP, "media": name, "started": at(days_ago).isoformat()}
    return [media, Snapshot(f"dump-{days_ago:g}", at(days_ago), dump)] if whole else [media]


@pytest.mark.parametrize(
    ("days_ago", "chosen"),
    [
        (None, "copy-0.2"),
        (0.3, "copy-0.2"),
        (0.5, "copy-0.5"),
        (0.9, "copy-0.6"),
        (1.2, "night-1"),
        (0.1, "copy-0.2"),
        (5, "night-2"),
    ],
)
def test_first_state_since_a_moment_fits_else_the_last_before(
    days_ago: float | None, chosen: str
) -> None:
    there = [*night(2), *night(1), copy(0.6), copy(0.5), copy(0.2), copy(0.3, "wiki"), copy(-3)]

    found = uploads.fitting(there, "payments", None if days_ago is None else at(days_ago))

    assert found is not None
    assert found.id == chosen


def test_without_any_state_there_is_none() -> None:
    assert uploads.fitting([copy(1, "wiki"), *night(1, app="wiki")], "payments") is None


def test_uploads_of_a_backup_that_is_not_whole_are_a_state() -> None:
    found = uploads.fitting([*night(2), *night(1, whole=False)], "payments")
    assert found is not None
    assert found.id == "night-1"


def test_copies_go_once_the_backups_of_two_later_days_are_there() -> None:
    there = [*night(2), *night(1), copy(5), copy(2.1), copy(1.5), copy(0.5), copy(3, "wiki")]
    assert uploads.obsolete(there, "payments") == ["copy-5", "copy-2.1"]


@pytest.mark.parametrize(
    "backups",
    [
        [],
        night(1),
        [*night(1), *night(0.99)],
        [*night(2, whole=False), *night(1)],
        [*night(1), *night(-400)],
    ],
    ids=["none", "one", "two of a day", "one of them not whole", "one from the future"],
)
def test_without_backups_of_two_days_all_copies_stay(backups: list[Snapshot]) -> None:
    assert uploads.obsolete([copy(30), *backups], "payments") == []


def test_copy_of_the_last_24_hours_stays_whatever_followed() -> None:
    now = datetime.now(UTC)
    copied = Snapshot("u", now - timedelta(hours=23), {"app": "payments", "kind": UPLOADS})
    there = [*night(0), *night(0.5), copied]
    assert uploads.obsolete(there, "payments") == []
