"""How long ago a backup was proved to be one: what `bedstone status` makes of the ledger."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone import cli, ledger, verify_history
from bedstone.overview import screen, verifications
from bedstone.terminal import Paint
from bedstone.verify_history import Verification

if TYPE_CHECKING:
    from bedstone.backup_settings import Settings

OLD = "backup_20261101_020000"
NEW = "backup_20261108_020000"


@dataclass(frozen=True)
class Attempt:
    """One record, so many days ago; negative is in the future."""

    days: float
    kind: str = "dump"
    state: str = "succeeded"
    backup: str | None = NEW


def record(*attempts: Attempt) -> None:
    for attempt in attempts:
        moment = (datetime.now(UTC) - timedelta(days=attempt.days)).isoformat()
        verify_history.record(
            Verification(
                app="payments",
                kind=attempt.kind,
                backup=attempt.backup,
                destination="local",
                state=attempt.state,
                started_at=moment,
                finished_at=moment,
                seconds=1.0,
                error=None if attempt.state == "succeeded" else "the disk\nsmells",
            )
        )


def both(days: float, backup: str = NEW) -> tuple[Attempt, Attempt]:
    return Attempt(days, backup=backup), Attempt(days, "media", backup=backup)


CASES: dict[str, tuple[tuple[Attempt, ...], float | None, str | None]] = {
    "of this week": (both(3), 100, None),
    "of last week but one": (both(8.5), 100, "the last verification is 8 days old: `systemctl"),
    "of the dump alone": ((Attempt(1),), 100, "no backup was ever verified: `bedstone verify pay"),
    "of the dump this week, of the media long ago": (
        (*both(20), Attempt(1)),
        100,
        "the last verification is 20 days old",
    ),
    "failed": (
        (*both(3, OLD), Attempt(0, state="failed")),
        100,
        f"the verification of {NEW} failed: the disk",
    ),
    "failed, an older one is whole": (
        (Attempt(2, state="failed"), *both(1, OLD)),
        100,
        f"the verification of {NEW} failed: the disk",
    ),
    "failed, the same is whole now": ((Attempt(2, state="failed"), *both(1)), 100, None),
    "failed, a newer one is whole": (
        (Attempt(2, state="failed", backup=OLD), *both(1)),
        100,
        None,
    ),
    "failed and is gone": (
        (*both(3, OLD), Attempt(0, state="failed", backup="backup_20261109_020000")),
        100,
        None,
    ),
    "prevented": (
        (*both(3), Attempt(0, state="prevented")),
        100,
        "the last verification came to nothing: the disk",
    ),
    "prevented for want of a backup": (
        (Attempt(0, state="prevented", backup=None),),
        100,
        "the last verification came to nothing: the disk",
    ),
    "prevented once": ((Attempt(2, state="prevented"), *both(1)), 100, None),
    "never, of an old app": ((), 9, "no backup was ever verified"),
    "never, of a new app": ((), 7, None),
    "never, of an app that was never released": ((), None, None),
    "by a clock that was wrong": (both(-30), 100, "the last verification is from the future"),
}


@pytest.mark.parametrize("name", CASES)
def test_last_verification_is_judged_by_the_ledger(settings: Settings, name: str) -> None:
    attempts, served_days, problem = CASES[name]
    for backup in (OLD, NEW):
        (settings.directory / "payments" / backup).mkdir(parents=True)
    record(*attempts)
    served = None
    if served_days is not None:
        served = (datetime.now(UTC) - timedelta(days=served_days)).isoformat()
    shown = verifications.of("payments", served)
    assert shown is not None
    assert shown["ok"] is (problem is None)
    assert (shown["problem"] or "").startswith(problem or "")


def test_app_without_data_has_none(settings: Settings) -> None:
    assert settings.apps
    assert verifications.of("wiki", None) is None


def test_line_on_the_screen_says_when_and_which() -> None:
    shown: dict[str, Any] = {
        "verified_at": "2026-11-20T04:30:00+00:00",
        "age_seconds": 200_000,
        "backup": NEW,
        "problem": None,
    }
    paint = Paint(on=False)
    line = screen._verification(shown, paint)
    assert line.strip() == f"verified 2 days ago ({NEW})"
    never = {**shown, "verified_at": None, "problem": "no backup was ever verified"}
    assert "never verified; no backup was ever" in screen._verification(never, paint)


@pytest.mark.usefixtures("settings")
def test_every_kind_and_destination_is_a_record_of_its_own() -> None:
    record(*both(1))
    with ledger.opened() as connection:
        attempts = verify_history.of_app(connection, "payments")
    assert verify_history.of_backup(attempts, NEW, {"dump", "media"}) is not None
    assert verify_history.of_backup(attempts, NEW, {"dump", "media"}, "s3:away") is None
    assert verify_history.of_backup(attempts, NEW, {"dump", "wal"}) is None
    assert verify_history.of_backup(attempts, OLD, {"dump"}) is None


@pytest.mark.usefixtures("settings")
def test_ledger_takes_no_unknown_state() -> None:
    with pytest.raises(sqlite3.IntegrityError):
        record(Attempt(1, state="perhaps"))


def test_help_says_what_an_exit_code_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["verify", "--help"])
    said = capsys.readouterr().out
    assert "Exit code 1: a backup isn't what it should be" in said
    assert "Production is not touched" in said
