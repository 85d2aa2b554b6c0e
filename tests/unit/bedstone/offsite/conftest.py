"""Backups of a PostgreSQL made of files, and repositories elsewhere."""

from __future__ import annotations

from tests.unit.fixtures.backup import configure, media, postgres, settings
from tests.unit.fixtures.offsite import declare, elsewhere, key, root

__all__ = ["configure", "declare", "elsewhere", "key", "media", "postgres", "root", "settings"]
