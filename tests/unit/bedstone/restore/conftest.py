"""Backups of a PostgreSQL made of files, a copy elsewhere, and an app in nginx."""

from __future__ import annotations

from tests.unit.fixtures.backup import configure, media, postgres, root, settings
from tests.unit.fixtures.offsite import elsewhere, key
from tests.unit.fixtures.pitr import destinations, site

__all__ = [
    "configure",
    "destinations",
    "elsewhere",
    "key",
    "media",
    "postgres",
    "root",
    "settings",
    "site",
]
