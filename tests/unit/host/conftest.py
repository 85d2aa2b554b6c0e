"""A server in memory, with a root directory of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.host.server import Server, declare


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that stands for the server's root."""
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with the app `shop` declared and nothing released."""
    monkeypatch.setattr("bedstone.release.steps.verify.VERIFY_PAUSE_SECONDS", 0)
    monkeypatch.setattr("bedstone.system.nginx.QUIET_SECONDS", 0)
    # Tests need not be root; who owns what is for the tests on real servers.
    monkeypatch.setattr(os, "chown", lambda *_, **_more: None)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    made = Server(root)
    declare(made)
    return made
