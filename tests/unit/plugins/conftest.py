"""Plugins by their plain names, and a bare server below a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.fixtures import plain_names
from tests.unit.fixtures.fake_server import FakeServer

__all__ = ["plain_names"]


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    """Return a bare server below a temporary directory."""
    return FakeServer(tmp_path)
