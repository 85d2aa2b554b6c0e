"""`bedstone console`: the declared command, on the terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bedstone.cli import main
from tests.unit.fixtures.daily import APP
from tests.unit.fixtures.in_service import program, put_into_service


@pytest.fixture
def docker(root: Path, declared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes how it was called; returns that note."""
    del declared
    program(root / "programs", "docker", f'echo "$*" > {root}/called; exit 7')
    monkeypatch.setenv("PATH", f"{root}/programs:{os.environ['PATH']}")
    return root / "called"


def test_console_is_a_container_of_its_own(docker: Path) -> None:
    put_into_service()
    assert main.main(["console", "shop"]) == 7, "its exit code is the console's"
    said = docker.read_text()
    assert said.startswith("run --rm --interactive --env-file ")
    assert "--name bedstone-shop-console-" in said
    assert said.endswith("sha256:1 manage shell\n")
    assert "--tty" not in said, "there is no terminal here"


def test_release_of_before_the_console_has_the_declared_one(docker: Path) -> None:
    put_into_service(APP | {"commands": {}})
    main.main(["console", "shop"])
    assert docker.read_text().endswith("manage shell\n")


def test_app_without_a_console_says_how_to_declare_one(
    docker: Path, declared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = APP | {"commands": {}}
    (declared / "app.json").write_text(json.dumps(bare))
    put_into_service(bare)
    assert main.main(["console", "shop"]) == 1
    said = capsys.readouterr().err
    assert "shop has no console." in said
    assert "`console: python manage.py shell`" in said
    assert not docker.exists()
