"""A root of its own for each test."""

from __future__ import annotations

from tests.unit.fixtures.release import root

__all__ = ["root"]
