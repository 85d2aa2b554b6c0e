"""The programs of PostgreSQL that a host has."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bedstone.postgres import programs


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))

    def install(*paths: str) -> None:
        for path in paths:
            file = tmp_path / "usr/lib/postgresql" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    return install


def test_client_is_the_newest_by_number(installed: Callable[..., None], tmp_path: Path) -> None:
    installed("9/bin/psql", "17/bin/psql", "18/bin/initdb", "18.away/bin/psql")
    assert programs.client("psql") == str(tmp_path / "usr/lib/postgresql/17/bin/psql")
    assert programs.majors("initdb") == [18]


@pytest.mark.usefixtures("installed")
def test_without_debians_place_the_path_decides() -> None:
    assert programs.client("psql") == "psql"
    assert programs.psql("shop")[0] == "psql"
