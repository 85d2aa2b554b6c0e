"""Which run of a unit belongs to which release: rsyslog's table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import runs

RUN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setenv("INVOCATION_ID", RUN)
    return tmp_path / "var/lib/bedstone/runs/releases.json"


def rows(table: Path) -> list[dict[str, Any]]:
    written = json.loads(table.read_text())
    assert (written["version"], written["nomatch"], written["type"]) == (1, "", "string")
    return list(written["table"])


def test_run_is_recorded_once_and_readable_to_others(table: Path) -> None:
    table.parent.mkdir(parents=True)
    runs.record("r1")
    runs.record("r2")
    assert rows(table) == [{"index": RUN, "value": ' release="r2"'}]
    assert table.stat().st_mode & 0o777 == 0o644


def test_oldest_are_dropped(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.parent.mkdir(parents=True)
    monkeypatch.setattr(runs, "_KEPT", 3)
    for number in range(5):
        monkeypatch.setenv("INVOCATION_ID", f"{number:032x}")
        runs.record(f"r{number}")
    assert [row["value"] for row in rows(table)] == [f' release="r{n}"' for n in (2, 3, 4)]


def test_damaged_table_is_begun_again(table: Path) -> None:
    table.parent.mkdir(parents=True)
    table.write_text('{"table": [{"in')
    runs.record("r1")
    assert len(rows(table)) == 1


def test_server_that_sends_no_logs_gets_no_file(table: Path) -> None:
    runs.record("r1")
    assert not table.parent.exists()


@pytest.mark.parametrize("run", ["", "x", f"{RUN}0", '"]'])
def test_process_without_a_run_records_nothing(
    table: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    table.parent.mkdir(parents=True)
    monkeypatch.setenv("INVOCATION_ID", run)
    runs.record("r1")
    assert not table.exists()


def test_name_that_would_end_the_field_is_not_written(table: Path) -> None:
    table.parent.mkdir(parents=True)
    runs.record('r1"]')
    assert not table.exists()


def test_failure_to_write_fails_no_run(table: Path) -> None:
    table.mkdir(parents=True)
    runs.record("r1")
    assert table.is_dir()
