"""Uploads that no backup of this server holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedstone.backup import settings
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.notify.alarms import Alarm
from bedstone.watch import uploads
from tests.unit.fixtures.daily import APP, root

__all__ = ["root"]

MEDIA = {"path": "/app/media", "url": "/media/"}
KEPT = {
    "schema": 1,
    "directory": "/var/backups/bedstone",
    "keep_days": 30,
    "keep_at_least": 3,
    "reserve_mb": 512,
    "jobs": 0,
    "socket": "/var/run/postgresql",
    "port": 5432,
}


def declare(**media: Any) -> None:
    file = paths.app_config("shop")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**APP, "media": {**MEDIA, **media}}))


def backed_up(directory: str | None) -> None:
    databases = [{"app": "shop", "name": "shop", "owner": "shop_owner"}]
    media = [] if directory is None else [{"app": "shop", "directory": directory}]
    settings.path().write_text(json.dumps({**KEPT, "databases": databases, "media": media}))


def alarms() -> list[Alarm]:
    return list(uploads.judge(uploads.gather(), datetime.now(UTC)))


def test_uploads_of_a_server_without_backups_are_red_with_two_ways_out(root: Path) -> None:
    declare()
    [alarm] = alarms()
    assert (alarm.name, alarm.severity, alarm.app) == ("uploads/shop", "red", "shop")
    assert f"no backup holds the uploads of shop ({root}/srv/bedstone/shop/media)" in alarm.words
    assert "`backup: false`" in alarm.command


def test_backups_of_the_database_alone_are_red(root: Path) -> None:
    del root
    declare()
    backed_up(None)
    assert len(alarms()) == 1


def test_uploads_in_the_backups_are_silent(root: Path) -> None:
    del root
    declare()
    backed_up("/srv/bedstone/shop/media")
    assert alarms() == []


def test_uploads_that_are_meant_to_be_in_no_backup_are_silent(root: Path) -> None:
    del root
    declare(backup=False)
    assert alarms() == []


def test_app_without_uploads_and_one_that_cannot_be_read_are_silent(root: Path) -> None:
    del root
    file = paths.app_config("shop")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(APP))
    assert APP.get("media") is None
    assert alarms() == []
    file.write_text("{")
    assert alarms() == []


def test_damaged_settings_of_backups_leave_it_unjudged(root: Path) -> None:
    del root
    declare()
    settings.path().write_text("{")
    with pytest.raises(BedstoneError, match=r"backup\.json"):
        uploads.gather()
