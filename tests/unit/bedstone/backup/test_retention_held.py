"""A smaller retention removes nothing until it is accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import create, kept, manifest, retention_held
from bedstone.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.backup.settings import Settings
    from tests.unit.fixtures.backup import FakePostgres

SMALL = {"keep_days": 3, "keep_weeks": 0, "keep_months": 0}


@pytest.fixture
def month(settings: Settings, postgres: FakePostgres) -> list[str]:
    """One backup a day of the last ten days, the newest first."""
    assert postgres.names()
    names = []
    for days in range(10, 0, -1):
        made = create.create(settings, "payments").backup
        assert made.manifest is not None
        started = made.manifest.started - timedelta(days=days)
        manifest.write(made.path, replace(made.manifest, started=started))
        names.append(made.name)
    return names[::-1]


def test_it_is_held_back_shown_and_accepted(
    configure: Callable[..., Settings], month: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = configure(**SMALL)
    assert create.create(smaller, "payments").removed == ()
    assert "keep_days from 30 to 3" in str(retention_held.sentence())
    assert "bedstone retention --accept" in str(retention_held.sentence())
    capsys.readouterr()

    assert main.main(["retention"]) == 0
    shown = capsys.readouterr().out
    assert "keep_days: 30 in force, 3 in the settings" in shown
    assert f"payments at local: 8 backups, {month[-1]} to {month[2]}" in shown
    assert create.create(smaller, "payments").removed == (), "looking accepts nothing"

    assert main.main(["retention", "--accept"]) == 0
    assert retention_held.sentence() is None
    assert sorted(create.create(smaller, "payments").removed) == sorted(month[2:])


def test_larger_one_is_in_force_at_once(configure: Callable[..., Settings]) -> None:
    assert kept.rules(configure()).days == 30
    assert kept.rules(configure(keep_days=60)).days == 60
    assert retention_held.sentence() is None
    assert kept.rules(configure(keep_days=30)).days == 60
    assert retention_held.sentence() is not None


def test_each_value_is_held_back_by_itself(configure: Callable[..., Settings]) -> None:
    kept.rules(configure())
    rules = kept.rules(configure(keep_days=90, keep_weeks=1))
    assert (rules.days, rules.weeks) == (90, 8)
    assert "keep_weeks from 8 to 1" in str(retention_held.sentence())
    assert "keep_days" not in str(retention_held.sentence())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_file_that_cannot_be_read_holds_everything_back(
    configure: Callable[..., Settings], text: str
) -> None:
    settings = configure(**SMALL)
    kept.rules(settings)
    retention_held.path().write_text(text)
    assert kept.rules(settings).days == 3650
    assert retention_held.sentence() is not None
    retention_held.accept()
    assert kept.rules(settings).days == 3


def test_log_is_held_back_like_the_backups(settings: Settings) -> None:
    assert retention_held.in_force(retention_held.of_log(7)).keep_point_in_time_days == 7
    kept.rules(settings)
    assert retention_held.in_force(retention_held.of_log(2)).keep_point_in_time_days == 7
