"""A server of files, and a primary that answers as a test says."""

from tests.unit.fixtures.replica import world

__all__ = ["world"]
