"""A root of its own for each test, with a file of destinations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.storage import destinations
from tests.unit.host_backup.conftest import configure, media, postgres, settings
from tests.unit.host_offsite.repositories import Elsewhere

__all__ = ["configure", "media", "postgres", "settings"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.storage.destinations import Destinations

LOCAL = {
    "name": "local",
    "type": "local",
    "restic": "/var/backups/bedstone/.restic",
    "pgbackrest": 1,
}
OFFSITE = {
    "name": "offsite",
    "type": "sftp",
    "host": "backup.example.com",
    "port": 2222,
    "user": "bedstone",
    "path": "/srv/bedstone",
    "pgbackrest": 2,
}
BUCKET = {
    "name": "bucket",
    "type": "s3",
    "endpoint": "s3.example.com",
    "bucket": "backups",
    "region": "eu-central-1",
    "path": "/payments",
    "path_style": True,
    "pgbackrest": None,
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def declare(root: Path) -> Callable[..., Destinations]:
    """Write destinations.json, and return what the program reads."""

    def write(*entries: dict[str, Any], **changes: Any) -> Destinations:
        path = root / "etc/bedstone/destinations.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "schema": 1,
            "point_in_time": None,
            "destinations": list(entries or (LOCAL, OFFSITE, BUCKET)),
            **changes,
        }
        path.write_text(json.dumps(document))
        return destinations.load()

    return write


@pytest.fixture
def key(root: Path) -> Path:
    """The backup key."""
    path = root / "etc/bedstone/backup.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a key of a test\n")
    return path


@pytest.fixture
def elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Repositories made of directories."""
    found = Elsewhere(root)
    for module in (
        "backup.media_snapshots",
        "offsite.copies",
        "offsite.sync",
        "offsite.observe",
        "offsite.verification_reports",
    ):
        monkeypatch.setattr(f"bedstone.{module}.Repository", found.open)
    return found
