"""The age of the last verification: what `bedstone status` shows from the ledger."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.cli import main
from bedstone.core.terminal import Paint
from bedstone.ledger import database
from bedstone.ledger import verifications as verify_history
from bedstone.ledger.verifications import Verification
from bedstone.status import screen
from bedstone.verify import status

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import Settings

OLD = "backup_20261101_020000"
NEW = "backup_20261108_020000"


@dataclass(frozen=True)
class Attempt:
    """One record, so many days ago; negative is in the future."""

    days: float
    kind: str = "dump"
    state: str = "succeeded"
    backup: str | None = NEW
    destination: str = "local"
    app: str = "payments"


def record(*attempts: Attempt) -> None:
    for attempt in attempts:
        moment = (datetime.now(UTC) - timedelta(days=attempt.days)).isoformat()
        verify_history.record(
            Verification(
                app=attempt.app,
                kind=attempt.kind,
                backup=attempt.backup,
                destination=attempt.destination,
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
    shown = status.app_status("payments", served)
    assert shown is not None
    assert shown["ok"] is (problem is None)
    assert (shown["problem"] or "").startswith(problem or "")


def test_app_without_data_has_none(settings: Settings) -> None:
    assert settings.apps
    assert status.app_status("wiki", None) is None


def test_line_on_the_screen_says_when_and_which() -> None:
    shown: dict[str, Any] = {
        "verified_at": "2026-11-20T04:30:00+00:00",
        "age_seconds": 200_000,
        "backup": NEW,
        "destinations": [{"destination": "local", "verified_at": "x", "age_seconds": 200_000}],
        "problem": None,
    }
    paint = Paint(on=False)
    line = screen._verification(shown, paint)
    assert line.strip() == f"verified 2 days ago ({NEW})"
    elsewhere = [
        *shown["destinations"],
        {"destination": "offsite", "verified_at": "x", "age_seconds": 300_000},
        {"destination": "bucket", "verified_at": None, "age_seconds": None},
    ]
    line = screen._verification({**shown, "destinations": elsewhere}, paint)
    assert line.strip().endswith(", at offsite 3 days ago, at bucket never")
    never = {**shown, "verified_at": None, "problem": "no backup was ever verified"}
    assert "never verified; no backup was ever" in screen._verification(never, paint)


@pytest.mark.usefixtures("settings")
def test_every_kind_and_destination_is_a_record_of_its_own() -> None:
    record(*both(1))
    with database.opened() as connection:
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
        main.main(["verify", "--help"])
    said = capsys.readouterr().out
    assert "Exit code 1: a backup isn't what it should be" in said
    assert "Production is not touched" in said


@pytest.fixture
def offsite(settings: Settings, root: Path) -> None:
    """A destination elsewhere, which has had this app's backups for 30 days."""
    assert settings.apps
    document = {
        "schema": 1,
        "point_in_time": {
            "stanza": "main", "keep_days": 7, "keep_full": 2, "archive_timeout_seconds": 60,
        },
        "destinations": [
            {"name": "local", "type": "local", "restic": "/backups/.restic", "pgbackrest": 1},
            {
                "name": "offsite", "type": "sftp", "host": "h", "port": 22, "user": "u",
                "path": "/p", "pgbackrest": 2,
            },
        ],
    }  # fmt: skip
    (root / "etc/bedstone/destinations.json").write_text(json.dumps(document))
    month = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO copies (app, kind, backup, destination, state, started_at, finished_at)"
            " VALUES ('payments', 'dump', ?, 'offsite', 'succeeded', ?, ?)",
            (NEW, month, month),
        )
        connection.execute(
            "INSERT INTO backups (app, state, started_at, finished_at)"
            " VALUES ('payments', 'succeeded', ?, ?)",
            (month, month),
        )


def there(days: float, **changes: Any) -> tuple[Attempt, Attempt]:
    return tuple(  # type: ignore[return-value]
        replace(attempt, destination="offsite", **changes) for attempt in both(days)
    )


ELSEWHERE: dict[str, tuple[tuple[Attempt, ...], str | None]] = {
    "both proved": ((*both(1), *there(2)), None),
    "never there": (both(1), "no backup at offsite was ever verified"),
    "long ago there": ((*both(1), *there(9)), "the last verification at offsite is 9 days old"),
    "failed there": (
        (*both(1), *there(2, state="failed")),
        f"the verification of {NEW} failed: the disk (offsite)",
    ),
    "failed there, and a newer one is whole": (
        (*both(1), *there(2, state="failed", backup=OLD), *there(1)),
        None,
    ),
    "came to nothing there": (
        (*both(1), *there(2), *there(1, state="prevented")),
        "the last verification came to nothing: the disk (offsite)",
    ),
}


@pytest.mark.usefixtures("offsite")
@pytest.mark.parametrize("case", ELSEWHERE)
def test_each_destination_has_to_be_proved(case: str, backup_directory: Path) -> None:
    attempts, problem = ELSEWHERE[case]
    assert backup_directory.is_dir()
    record(*attempts)
    found = status.app_status("payments", (datetime.now(UTC) - timedelta(days=100)).isoformat())
    assert found is not None
    if problem is None:
        assert found["problem"] is None
    else:
        assert found["problem"].startswith(problem)
    assert [place["destination"] for place in found["destinations"]] == ["local", "offsite"]


@pytest.fixture
def backup_directory(root: Path) -> Path:
    directory = root / "backups/payments" / NEW
    directory.mkdir(parents=True)
    return directory


def wal(days: float, state: str = "succeeded") -> Attempt:
    label = "20261108-010000F"
    return Attempt(days, "wal", state, label, destination="offsite", app="")


@pytest.mark.usefixtures("offsite")
@pytest.mark.parametrize(
    ("attempts", "problem"),
    [
        ((wal(1),), None),
        ((), "WAL at offsite: it was never verified: `bedstone verify --kind wal`"),
        ((wal(9),), "WAL at offsite: the last verification is 9 days old"),
        ((wal(2), wal(1, "failed")), "WAL at offsite: the verification of the WAL failed: the dis"),
        # The same backup, and more WAL.
        ((wal(2, "failed"), wal(1)), None),
    ],
)
def test_wal_of_each_destination_has_to_be_proved(
    attempts: tuple[Attempt, ...], problem: str | None
) -> None:
    record(*attempts)
    found = [line for line in status.wal_problems() if "at offsite" in line]
    assert (found[0] if found else "").startswith(problem or "")
    assert bool(found) == bool(problem)
