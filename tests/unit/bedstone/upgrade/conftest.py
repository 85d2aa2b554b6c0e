"""Two clusters in memory, and a process that can be killed."""

from __future__ import annotations

from tests.unit.fixtures.upgrade import settings, world

__all__ = ["settings", "world"]
