"""What all unit tests need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bedstone.cli import logs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cgroup(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let nothing that is tested give way to others: it would be the tests' own process."""
    # Not in the test's own directory, which may have to be empty.
    path = tmp_path_factory.mktemp("cgroup") / "cgroup-of-a-test"
    path.write_text("0::/system.slice/bedstone-backup.service\n")
    monkeypatch.setattr("bedstone.system.priority._CGROUP", path)
    return path


@pytest.fixture(autouse=True)
def log() -> None:
    """Write the program's log to standard error, as in the program."""
    logs.configure()
