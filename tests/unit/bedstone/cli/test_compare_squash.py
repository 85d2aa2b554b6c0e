"""What `bedstone compare-squash` says, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bedstone.cli import main
from bedstone.migrations import squash
from bedstone.migrations.squash import Comparison
from bedstone.postgres import temporary
from bedstone.postgres.schema_difference import Difference
from bedstone.postgres.server import Server

SQUASHES = {"shop.0001_squashed_0003": ["shop.0001_first", "shop.0002_second"]}


class Fake:
    """Stands for the comparison, and keeps what it was asked."""

    def __init__(self) -> None:
        self.result = Comparison(SQUASHES, 25, (), {})
        self.asked: tuple[Any, ...] = ()

    def compare(self, *given: Any, **options: Any) -> Comparison:
        self.asked = (*given, options)
        return self.result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    made = Fake()

    @contextmanager
    def cluster(place: Path, major: int, *, watch: Any) -> Iterator[Server]:
        del watch
        assert major == 17
        assert place.is_dir()
        yield Server(str(place), 5432)

    (tmp_path / "usr/lib/postgresql/17/bin").mkdir(parents=True)
    (tmp_path / "usr/lib/postgresql/17/bin/initdb").touch()
    (tmp_path / "usr/lib/postgresql/9/bin").mkdir(parents=True)
    (tmp_path / "usr/lib/postgresql/9/bin/initdb").touch()
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(temporary, "cluster", cluster)
    monkeypatch.setattr(squash, "compare", made.compare)
    return made


def test_equal_schemas_end_with_0(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["compare-squash", "shop", "--command", "./manage.py migrate"]) == 0
    said = capsys.readouterr().out
    assert "shop.0001_squashed_0003 replaces 2: shop.0001_first to shop.0002_second\n" in said
    assert said.endswith("They make the same schema.\n")
    _, django, directory, squashes, _ = fake.asked
    assert django.program == ("./manage.py",)
    assert (directory, squashes) == (Path(), ["shop"])


def test_each_difference_is_told_and_the_end_is_1(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.result = Comparison(
        SQUASHES,
        25,
        (
            Difference("only in the first", "INDEX", "public.a", ("CREATE INDEX a;",)),
            Difference("only in the second", "TRIGGER", "public.t", second=("CREATE TRIGGER t;",)),
            Difference("different", "TABLE", "public.book", ("x integer",), ("x bigint",)),
            Difference("name", "INDEX", "public.b", ("public.b",), ("public.c",)),
        ),
        {"shop_author": (1, 0)},
    )
    assert main.main(["compare-squash"]) == 1
    said = capsys.readouterr().out
    assert "index public.a: only the replaced migrations make it\n  CREATE INDEX a;\n" in said
    assert "trigger public.t: only the squashed migrations make it\n  CREATE TRIGGER t;\n" in said
    assert (
        "table public.book differs\n"
        "  replaced migrations: x integer\n"
        "  squashed migrations: x bigint\n"
    ) in said
    assert "index public.b has another name only\n" in said
    assert "rows of shop_author differ\n  replaced migrations: 1\n" in said
    assert said.endswith("They differ in 5.\n")
    assert main.main(["compare-squash", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["equal"], len(data["schema"])) == (False, 4)


def test_no_root_is_needed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEDSTONE_ROOT")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main.main(["compare-squash", "--postgresql", "17"]) == 0
    assert fake.asked
    assert main.main(["backups"]) == 1


@pytest.mark.parametrize("command", ["python manage.py check", "python 'manage.py migrate"])
def test_other_command_than_migrate_is_refused(fake: Fake, command: str) -> None:
    assert main.main(["compare-squash", "--command", command]) == 1
    assert fake.asked == ()


def test_without_postgresql_the_package_is_named(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del fake
    for program in tmp_path.glob("usr/lib/postgresql/*/bin/initdb"):
        program.unlink()
    assert main.main(["compare-squash"]) == 1
    assert "apt install postgresql" in caplog.text
