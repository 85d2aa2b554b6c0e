"""Fixtures: an inventory without any problem, and Django projects without a Dockerfile."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from bedstone_control.inventory import create
from bedstone_control.vault import content
from tests.unit.control.sites import GOOD, Site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def good_secrets() -> dict[str, Any]:
    """The secrets of the good settings, made once."""
    return content.new_secrets(GOOD)


@pytest.fixture
def site(tmp_path: Path, good_secrets: dict[str, Any]) -> Site:
    """An inventory without any problem."""
    directory = tmp_path / "production"
    (directory / "group_vars" / "all").mkdir(parents=True)
    content.write_password(directory / create.PASSWORD_FILE)
    app = tmp_path / "app"
    app.mkdir()
    (app / "Dockerfile").write_text("FROM scratch\n")
    groups = {name: ["web1"] for name in ("all", "app", "proxy", "postgresql")}
    return Site(directory, copy.deepcopy(GOOD), copy.deepcopy(good_secrets), groups, {})


@pytest.fixture
def django(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a Django project without a Dockerfile."""

    def make(**files: str) -> Path:
        root = tmp_path / "project"
        texts = {
            "manage.py": "",
            "requirements.txt": "django\n",
            "config/wsgi.py": "application = get_wsgi_application()\n",
        }
        for name, text in (texts | files).items():
            path = root / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return make
