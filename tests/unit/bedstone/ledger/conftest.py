"""A root of its own for each test, and a PostgreSQL made of files."""

from __future__ import annotations

from tests.unit.fixtures.backup import configure, media, postgres, root, settings

__all__ = ["configure", "media", "postgres", "root", "settings"]
