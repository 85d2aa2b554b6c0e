"""Share what the tests of backups have: a root of their own, and a PostgreSQL made of files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.host_backup.conftest import configure, media, postgres, root, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["configure", "media", "postgres", "root", "settings"]

OFFSITE = {
    "name": "offsite", "type": "sftp", "host": "backup.example.com", "port": 22, "user": "bedstone",
    "path": "/srv/bedstone", "pgbackrest": 2,
}  # fmt: skip


@pytest.fixture
def destinations(root: Path) -> Callable[..., None]:
    """Write destinations.json: this server, and one elsewhere."""

    def write(*, wal: bool = True) -> None:
        path = root / "etc/bedstone/destinations.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        local: dict[str, Any] = {
            "name": "local", "type": "local", "restic": "/backups/.restic",
            "pgbackrest": 1 if wal else None,
        }  # fmt: skip
        point = {
            "stanza": "main", "keep_days": 7, "keep_full": 2, "archive_timeout_seconds": 60,
        }  # fmt: skip
        offsite = {**OFFSITE, "pgbackrest": 2 if wal else None}
        document = {
            "schema": 1,
            "point_in_time": point if wal else None,
            "destinations": [local, offsite],
        }
        path.write_text(json.dumps(document))

    return write


@pytest.fixture
def site(root: Path) -> Path:
    """The app in nginx; return the path of its maintenance page."""
    for name in ("sites", "maintenance"):
        (root / "etc/nginx/bedstone" / name).mkdir(parents=True)
    (root / "etc/nginx/bedstone/sites/payments.conf").touch()
    return root / "etc/nginx/bedstone/maintenance/payments.html"
