"""Backups of a PostgreSQL made of files, here and elsewhere."""

from __future__ import annotations

from tests.unit.fixtures.backup import configure, media, postgres, root, settings
from tests.unit.fixtures.offsite import declare, elsewhere, key
from tests.unit.fixtures.pitr import destinations

__all__ = [
    "configure",
    "declare",
    "destinations",
    "elsewhere",
    "key",
    "media",
    "postgres",
    "root",
    "settings",
]
