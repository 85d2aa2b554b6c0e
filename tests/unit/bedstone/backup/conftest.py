"""Backups of a PostgreSQL made of files, and repositories elsewhere."""

from __future__ import annotations

from tests.unit.fixtures.backup import configure, media, postgres, root, settings
from tests.unit.fixtures.offsite import elsewhere, key

__all__ = ["configure", "elsewhere", "key", "media", "postgres", "root", "settings"]
