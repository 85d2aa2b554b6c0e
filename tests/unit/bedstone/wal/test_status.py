"""`bedstone status` shows whether WAL is archived, and arrives where it should."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedstone.core.terminal import Paint
from bedstone.ledger import observations
from bedstone.ledger.kinds import WAL
from bedstone.storage import destinations
from bedstone.storage.destinations import Destination, Destinations, PointInTime
from bedstone.wal import archiver, status
from tests.unit.bedstone.wal.test_archiver import WELL

KNOWN = Destinations(
    (
        Destination("local", "local", 1),
        Destination("dumps", "sftp"),
        Destination("bucket", "s3", 2),
    ),
    PointInTime("main", 7, 2, 60),
)
PLAIN = Paint(on=False)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found = dict(WELL)
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(destinations, "load", lambda: KNOWN)
    monkeypatch.setattr(archiver, "health", lambda _, seconds: archiver.judge(found, seconds))
    return found


def seen(destination: str, problem: str | None = None) -> None:
    observations.record(
        destination, "", WAL, newest="20261120-010000F", newest_at=datetime.now(UTC),
        problem=problem,
    )  # fmt: skip


def test_server_without_an_archive_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    assert status.wal_status() is None
    assert status.problems(None) == []
    assert list(status.lines(None, PLAIN)) == []


@pytest.mark.usefixtures("known")
def test_all_is_well() -> None:
    seen("local")
    seen("bucket")
    shown = status.wal_status()
    assert status.problems(shown) == []
    assert list(status.lines(shown, PLAIN)) == [
        "WAL: archived less than a minute ago, kept at local, bucket"
    ]


@pytest.mark.usefixtures("known")
def test_destination_that_nobody_looked_at_is_told() -> None:
    seen("local")
    (problem,) = status.problems(status.wal_status())
    assert problem.startswith("WAL at bucket: it was not checked yet")


@pytest.mark.usefixtures("known")
def test_problem_at_a_destination_is_told_with_its_place() -> None:
    seen("local")
    seen("bucket", "the WAL there has a gap")
    assert status.problems(status.wal_status()) == ["WAL at bucket: the WAL there has a gap"]


def test_archiving_that_fails_comes_first(known: dict[str, Any]) -> None:
    known.update(failing=True, failed="000000010000000000000009", failed_seconds=5.0, ready=2)
    seen("local")
    observations.unseen("bucket", "", WAL, "it can't be reached")
    problems = status.problems(status.wal_status())
    assert problems[0].startswith("WAL isn't archived: 000000010000000000000009")
    assert problems[1] == "WAL at bucket: it can't be reached"
