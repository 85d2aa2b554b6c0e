"""`bedstone releases`: the list of what was released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedstone.apps import slots
from bedstone.cli import main
from bedstone.core import paths
from bedstone.ledger import database, releases
from bedstone.ledger.releases import NewRelease
from tests.unit.fixtures.in_service import MADE


def release(version: str, *, fails: bool = False, caller: str = "anna") -> str:
    """Go through a release as the program records it; return its id."""
    with database.opened() as connection:
        new, operation = releases.begin(connection, "shop", NewRelease(version, "f"), caller)
        if fails:
            releases.fail(connection, operation, "check", "it is broken")
            return new
        releases.set_restore_point(connection, operation, f"backup-of-{version}")
        releases.commit(connection, "shop", new, "blue", operation)
    paths.release("shop", new).mkdir(parents=True)
    slots.write_made("shop", new, MADE)
    return new


def roll_back(to: str, *, fails: bool = False) -> None:
    with database.opened() as connection:
        operation = releases.begin_operation(connection, "shop", "rollback", to, "ben")
        if fails:
            releases.fail(connection, operation, "verify", "no")
        else:
            releases.commit(connection, "shop", to, "green", operation)


@pytest.fixture
def app(declared: Path) -> Path:
    """The app, declared."""
    return declared


def test_nothing_released_yet(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del app
    assert main.main(["releases", "shop"]) == 0
    assert capsys.readouterr().out == "shop has no release yet.\n"


def test_table_tells_what_serves_what_failed_and_what_can_serve_again(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del app
    first, second, third = release("1"), release("2"), release("3", fails=True)
    assert main.main(["releases", "shop"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "RELEASE", "STATE", "WHEN", "BY", "ROLLBACK", "RESTORE", "POINT",
    ]  # fmt: skip
    assert [third, second, first] == [line.replace("*", "").split()[0] for line in lines]
    assert "failed at check" in lines[0]
    assert lines[0].endswith("release by anna  -         -")
    assert lines[1].startswith("* ")
    assert "serves" in lines[1]
    assert lines[1].endswith("release by anna  -         backup-of-2")
    assert lines[2].endswith("release by anna  yes       backup-of-1")


def test_rollback_is_told_at_what_it_put_into_service(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del app
    first, second = release("1"), release("2")
    roll_back(first)
    roll_back(second, fails=True)
    assert main.main(["releases", "shop", "--json"]) == 0
    newest, oldest = json.loads(capsys.readouterr().out)
    assert (newest["release"], newest["serves"], newest["can_serve_again"]) == (
        second, False, True,
    )  # fmt: skip
    assert (newest["operation"], newest["operation_state"]) == ("rollback", "failed")
    assert (oldest["operation"], oldest["caller"], oldest["serves"]) == ("rollback", "ben", True)
    assert oldest["restore_point"] == "backup-of-1"
    main.main(["releases", "shop"])
    said = capsys.readouterr().out
    assert "rollback (failed) by ben" in said


def test_release_whose_files_are_gone_cannot_serve_again(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del app
    first, _ = release("1"), release("2")
    (paths.release("shop", first) / "made.json").unlink()
    main.main(["releases", "shop", "--json"])
    assert [row["can_serve_again"] for row in json.loads(capsys.readouterr().out)] == [False, False]


def test_only_the_newest_ten_are_kept_and_as_many_shown_as_asked(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del app
    for number in range(13):
        release(str(number))
    main.main(["releases", "shop", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert sum(row["can_serve_again"] for row in rows) == 9, "ten less the one that serves"
    main.main(["releases", "shop", "-n", "3"])
    assert len(capsys.readouterr().out.splitlines()) == 4
    main.main(["releases", "shop", "-n", "0"])
    assert len(capsys.readouterr().out.splitlines()) == 14


def test_unknown_app_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del root
    assert main.main(["releases", "shop"]) == 1
    assert "No app is called 'shop'" in capsys.readouterr().err
