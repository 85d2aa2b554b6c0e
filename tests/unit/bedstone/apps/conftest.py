"""A server in memory."""

from __future__ import annotations

from tests.unit.fixtures.release import root, server

__all__ = ["root", "server"]
