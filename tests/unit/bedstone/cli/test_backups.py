"""A restore point is named by its caller; `latest` and the list of backups distinguish it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import catalog, create, manifest
from bedstone.backup import status as backup_status
from bedstone.cli import backups, main
from tests.unit.fixtures.backup import configure, media, postgres, root, settings

__all__ = ["configure", "media", "postgres", "root", "settings"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import Settings
    from tests.unit.fixtures.backup import FakePostgres

RELEASE = "20261120_101500-v1.4.2"


@pytest.fixture
def full(settings: Settings, postgres: FakePostgres) -> Backup:
    """A full backup, after which the data has changed."""
    found = create.create(settings, "payments").backup
    postgres.put("payments", {"public.payment": 5})
    return found


@pytest.fixture
def point(settings: Settings, full: Backup, postgres: FakePostgres) -> Backup:
    """A restore point that is newer than the full backup, after which the data has changed."""
    assert full.full
    found = create.create(settings, "payments", label=RELEASE, with_media=False).backup
    postgres.put("payments", {"public.payment": 9})
    return found


def test_restore_point_holds_the_database_alone_and_says_so(point: Backup) -> None:
    assert point.good
    assert not point.full
    assert point.manifest is not None
    assert point.manifest.restore_point
    assert point.manifest.media is None


def test_app_without_media_has_full_backups_too(
    configure: Callable[..., Settings], postgres: FakePostgres
) -> None:
    assert postgres.names() == ["payments"]
    settings = configure(media=[])
    assert create.create(settings, "payments").backup.full
    assert not create.create(settings, "payments", with_media=False).backup.full


@pytest.mark.usefixtures("point")
def test_latest_is_the_newest_one(
    point: Backup, postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["restore", "payments", "latest", "--yes"]) == 0
    assert postgres.rows("payments") == {"public.payment": 3}
    said = capsys.readouterr().err
    assert f"The restore point {point.name} ({RELEASE}) is newer" in said


def test_restore_point_is_restored_by_its_name(
    point: Backup, postgres: FakePostgres, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (media / "invoice.pdf").write_text("the second")
    assert main.main(["restore", "payments", point.name, "--yes"]) == 0
    assert postgres.rows("payments") == {"public.payment": 5}
    assert (media / "invoice.pdf").read_text() == "the second"
    assert "is newer" not in capsys.readouterr().err


def test_latest_without_a_full_one_names_the_restore_points(
    full: Backup, point: Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(full.path)
    assert main.main(["restore", "payments", "latest", "--yes"]) == 3
    said = capsys.readouterr().err
    assert "but restore points, which hold the database alone" in said
    assert f"{point.name} (restore point)" in said


def test_one_from_the_future_is_not_the_latest(
    settings: Settings,
    full: Backup,
    postgres: FakePostgres,
    capsys: pytest.CaptureFixture[str],
) -> None:
    future = create.create(settings, "payments").backup
    assert future.manifest is not None
    started = future.manifest.started + timedelta(days=3000)
    manifest.write(future.path, _begun(future, started))
    postgres.put("payments", {"public.payment": 9})
    shown = backup_status.app_status("payments", None)
    assert shown is not None
    assert shown["newest"] == full.name, "it would hide for years that no backup is made"
    assert main.main(["restore", "payments", "latest", "--yes"]) == 0
    assert postgres.rows("payments") == {"public.payment": 3}

    shutil.rmtree(full.path)
    assert main.main(["restore", "payments", "latest", "--yes"]) == 3
    said = capsys.readouterr().err
    assert "some from the future: is the clock right" in said
    assert future.name in said
    assert main.main(["restore", "payments", future.name, "--yes"]) == 0
    assert postgres.rows("payments") == {"public.payment": 5}


@pytest.mark.usefixtures("full", "point")
def test_list_names_the_release_of_a_restore_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backups"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert f"restore point {RELEASE}" in first
    assert "restore point" not in second


@pytest.mark.usefixtures("point")
def test_status_does_not_take_a_restore_point_for_last_nights_backup(
    full: Backup, settings: Settings
) -> None:
    assert full.manifest is not None
    long_ago = full.manifest.started - timedelta(days=2)
    manifest.write(full.path, _begun(full, long_ago))
    shown = backup_status.app_status("payments", None)
    assert shown is not None
    assert shown["newest"] == full.name
    assert shown["problem"] == "the last backup is 2 days old"
    assert catalog.newest(settings.directory / "payments", points=True) != catalog.load(full.path)


def _begun(found: Backup, started: datetime) -> manifest.Manifest:
    assert found.manifest is not None
    return replace(found.manifest, started=started)


# --- why a backup is kept ---------------------------------------------------------------------


@pytest.mark.usefixtures("full", "point")
def test_list_tells_why_each_one_is_kept(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = backups.listing(settings, "payments")
    assert [entry["kept"] for entry in entries] == [
        ["newest", "recent"],
        ["newest", "recent", "daily", "weekly", "monthly"],
    ]
    assert main.main(["backups", "--verbose"]) == 0
    heading, _, full_line = capsys.readouterr().out.splitlines()
    assert heading.endswith("KEPT")
    assert full_line.endswith("newest, recent, daily, weekly, monthly")


def test_list_tells_what_goes_next(
    configure: Callable[..., Settings], full: Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = configure(keep_days=2, keep_weeks=0, keep_months=0, keep_at_least=1)
    assert full.manifest is not None
    for days in (1, 2):
        made = create.create(settings, "payments").backup
        manifest.write(made.path, _begun(made, full.manifest.started - timedelta(days=days)))
    assert main.main(["retention", "--accept"]) == 0
    capsys.readouterr()
    assert main.main(["backups", "-v"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("goes after the next backup")


@pytest.mark.usefixtures("full")
def test_list_without_a_ledger_is_a_list(
    root: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "var/lib/bedstone/ledger.sqlite").write_text("not a database" * 100)
    (entry,) = backups.listing(settings, "payments")
    assert entry["kept"] is None
    assert json.dumps(entry)
    assert capsys.readouterr().err == ""
