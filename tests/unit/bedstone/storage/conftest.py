"""A root of its own for each test, with a file of destinations."""

from __future__ import annotations

from tests.unit.fixtures.offsite import declare, key, root

__all__ = ["declare", "key", "root"]
