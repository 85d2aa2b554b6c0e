"""What is measured each night, and what is foretold from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone.cli import main
from bedstone.ledger import database
from bedstone.ledger import growth as ledger_growth

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bedstone.backup.settings import Settings

NOW = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
GIB = 1024**3


@pytest.fixture
def connection(root: Path) -> Iterator[sqlite3.Connection]:
    del root
    with database.opened() as found:
        yield found


def night(connection: sqlite3.Connection, days_ago: float, free: int, size: int = 0) -> None:
    ledger_growth.record(
        connection, NOW - timedelta(days=days_ago), {"payments": size}, {"/var": free}
    )


def pace(connection: sqlite3.Connection) -> float | None:
    return ledger_growth.trend(connection, "free", "/var", NOW)


def test_steady_loss_tells_when_nothing_is_left(connection: sqlite3.Connection) -> None:
    for day in range(14):
        night(connection, day, free=(40 + day) * GIB)
    found = pace(connection)
    assert found == pytest.approx(-GIB)
    assert ledger_growth.days_left(40 * GIB, found) == pytest.approx(40)


def test_two_days_tell_nothing(connection: sqlite3.Connection) -> None:
    for day in (0, 0.1, 0.2, 1):
        night(connection, day, free=int((40 + day) * GIB))
    assert pace(connection) is None
    night(connection, 2, free=42 * GIB)
    assert pace(connection) is not None


def test_one_night_with_an_import_changes_nothing(connection: sqlite3.Connection) -> None:
    for day in range(14):
        night(connection, day, free=(40 + day) * GIB - (500 * GIB if day == 3 else 0))
    assert pace(connection) == pytest.approx(-GIB, rel=0.3)


def test_only_the_last_two_weeks_count(connection: sqlite3.Connection) -> None:
    for day in range(15, 60):
        night(connection, day, free=1000 * day * GIB)
    assert pace(connection) is None


def test_measurement_from_the_future_does_not_count(connection: sqlite3.Connection) -> None:
    for day in (-3000, -2, 0, 1, 2):
        night(connection, day, free=1 if day < 0 else 40 * GIB)
    assert pace(connection) == 0


def test_of_a_day_the_last_one_counts(connection: sqlite3.Connection) -> None:
    for day in (0, 1, 2):
        night(connection, day + 0.05, free=1)
        night(connection, day, free=(40 + day) * GIB)
    assert pace(connection) == pytest.approx(-GIB)


def test_growth_is_no_end(connection: sqlite3.Connection) -> None:
    for day in range(5):
        night(connection, day, free=(40 - day) * GIB, size=(40 - day) * GIB)
    assert ledger_growth.days_left(GIB, pace(connection)) is None
    assert ledger_growth.days_left(GIB, None) is None
    assert ledger_growth.trend(connection, "database", "payments", NOW) == pytest.approx(GIB)


def test_measurements_of_long_ago_are_removed(connection: sqlite3.Connection) -> None:
    night(connection, 401, free=1)
    night(connection, 399, free=2)
    night(connection, 0, free=3)
    kept = connection.execute(
        "SELECT bytes FROM measurements WHERE kind = 'free' ORDER BY taken_at"
    ).fetchall()
    assert [row["bytes"] for row in kept] == [2, 3]


@given(
    st.lists(
        st.tuples(st.integers(0, 14), st.integers(0, 2**50)), max_size=14, unique_by=lambda p: p[0]
    )
)
def test_trend_lies_between_the_least_and_the_greatest_step(points: list[tuple[int, int]]) -> None:
    found = ledger_growth.slope([(float(x), float(y)) for x, y in points])
    if len(points) < 3:
        assert found is None
        return
    steps = [(y2 - y1) / (x2 - x1) for x1, y1 in points for x2, y2 in points if x1 < x2]
    assert found is not None
    assert min(steps) <= found <= max(steps)


@pytest.mark.usefixtures("postgres")
def test_nightly_run_measures_and_a_backup_of_one_app_does_not(
    settings: Settings, root: Path
) -> None:
    (root / "var/lib/docker").mkdir(parents=True)

    def measured() -> list[tuple[str, str]]:
        with database.opened() as connection:
            rows = connection.execute("SELECT kind, name FROM measurements ORDER BY kind, name")
            return [tuple(row) for row in rows]

    assert main.main(["backup", "payments"]) == 0
    assert measured() == []
    assert main.main(["backup"]) == 0
    assert measured() == [
        ("database", "payments"),
        # One file system here, reported once.
        ("free", str(root / "var/lib/docker")),
    ]
    assert settings.directory.exists()


@pytest.mark.usefixtures("postgres")
def test_backup_counts_although_nothing_can_be_recorded(
    configure: Callable[..., Settings], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    (root / "var/lib/bedstone").mkdir(parents=True)
    (root / "var/lib/bedstone/ledger.sqlite").write_text("this is no database, but long enough" * 9)
    assert main.main(["backup"]) == 0
    assert "nothing was recorded" in capsys.readouterr().err
