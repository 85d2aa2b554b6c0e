"""Alarms of destinations that this server could destroy."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bedstone.offsite.canary import Attempt
from bedstone.storage.s3 import Protection
from bedstone.watch import immutable

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LOCKED = Protection(versioned=True, mode="COMPLIANCE", days=30)


def test_server_without_immutable_destinations_has_nothing_to_try(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    assert immutable.gather() == []


def test_what_stays_is_no_alarm() -> None:
    assert (
        list(immutable.judge([Attempt("vault", protection=LOCKED), Attempt("archive")], NOW)) == []
    )


@pytest.mark.parametrize(
    ("attempt", "severity", "words"),
    [
        (
            Attempt("vault", ("backups", "WAL"), (), LOCKED),
            "red",
            "backups and WAL at vault can be",
        ),
        (Attempt("vault", ("WAL",), error="and more"), "red", "WAL at vault can be deleted"),
        (
            Attempt("vault", (), ("WAL",), LOCKED),
            "warning",
            "WAL at vault can be deleted for good once",
        ),
        (Attempt("vault", error="403"), "warning", "whether vault is immutable isn't known: 403"),
        (Attempt("vault", protection=Protection(versioned=False)), "warning", "no versions"),
        (Attempt("vault", protection=Protection(versioned=True)), "warning", "no object lock"),
    ],
)
def test_alarm_says_what_is_wrong(attempt: Attempt, severity: str, words: str) -> None:
    (alarm,) = immutable.judge([attempt], NOW)
    assert (alarm.name, alarm.severity) == ("immutable/vault", severity)
    assert words in alarm.words
