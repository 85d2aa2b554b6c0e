"""The server in memory of the releases' tests."""

from __future__ import annotations

from tests.unit.fixtures.release import root, server

__all__ = ["root", "server"]
