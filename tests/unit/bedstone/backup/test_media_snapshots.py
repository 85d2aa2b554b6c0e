"""Nightly backups whose uploads are snapshots of a repository."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import create, manifest, media_snapshots
from bedstone.backup import media as media_module
from bedstone.core.errors import BedstoneError
from bedstone.storage import restic_errors

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import Settings
    from tests.unit.fixtures.repositories import Elsewhere

pytestmark = pytest.mark.usefixtures("postgres", "key", "elsewhere")


def made(settings: Settings) -> tuple[Backup, manifest.Media]:
    found = create.create(settings, "payments").backup
    assert found.manifest is not None
    assert found.manifest.media is not None
    return found, found.manifest.media


def unpacked(found: Backup, directory: Path) -> str:
    assert found.manifest is not None
    assert found.manifest.media is not None
    media_module.unpack(found.manifest.media, found.path, directory, watch=lambda: None)
    return (directory / "invoice.pdf").read_text()


def test_nightly_uploads_are_a_snapshot_and_come_back(settings: Settings, root: Path) -> None:
    found, media = made(settings)

    assert (media.engine, media.repository) == ("restic", "local")
    assert (media.files, media.bytes) == (1, len("the first"))
    assert not list(found.path.glob("media*"))
    assert unpacked(found, root / "out") == "the first"


def test_the_snapshot_carries_its_backups_name(settings: Settings, elsewhere: Elsewhere) -> None:
    found, media = made(settings)

    (snapshot,) = elsewhere.kept("local")
    assert snapshot.id == media.snapshot
    assert snapshot.tags == {"app": "payments", "kind": "media", "backup": found.name}


def test_a_backup_for_another_directory_holds_all_of_itself(
    settings: Settings, root: Path, elsewhere: Elsewhere
) -> None:
    found = create.create(settings, "payments", directory=root / "usb").backup

    assert found.manifest is not None
    assert found.manifest.media is not None
    assert found.manifest.media.engine == "tar"
    assert (found.path / found.manifest.media.archive).exists()
    assert elsewhere.kept("local") == []


def test_without_a_key_the_uploads_are_a_tar(settings: Settings, key: Path) -> None:
    key.unlink()

    found, media = made(settings)

    assert media.engine == "tar"
    assert (found.path / media.archive).exists()


def test_an_older_program_reads_a_backup_with_a_tar(settings: Settings, key: Path) -> None:
    key.unlink()

    document = json.loads((made(settings)[0].path / manifest.FILE).read_text())

    assert document["schema"] == 1
    assert set(document["media"]) == {"archive", "directory", "files", "bytes", "changed"}


def test_an_older_program_is_told_to_make_way_for_a_newer_one(settings: Settings) -> None:
    document = json.loads((made(settings)[0].path / manifest.FILE).read_text())

    assert document["schema"] == 2


def test_a_backup_whose_uploads_fail_is_none(settings: Settings, elsewhere: Elsewhere) -> None:
    elsewhere.broken["local"] = restic_errors.DAMAGED

    with pytest.raises(BedstoneError, match="local fails"):
        create.create(settings, "payments")

    assert list((settings.directory / "payments").iterdir()) == []


def test_uploads_go_with_their_backup_and_never_before(
    settings: Settings, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, keep_days=1, keep_weeks=0, keep_months=0, keep_at_least=1)
    first, _ = made(settings)
    assert first.manifest is not None
    moment = first.manifest.started

    class Later:
        """The days after."""

        days = 0

        @classmethod
        def now(cls, zone: object) -> object:
            del zone
            return moment + timedelta(days=cls.days)

    monkeypatch.setattr(create, "datetime", Later)
    Later.days = 1
    second, _ = made(settings)
    assert {s.tags["backup"] for s in elsewhere.kept("local")} == {first.name, second.name}
    Later.days = 5
    third, _ = made(settings)

    present = {path.name for path in (settings.directory / "payments").iterdir()}
    assert first.name not in present
    assert {s.tags["backup"] for s in elsewhere.kept("local")} == present
    assert third.name in present


def test_uploads_that_are_nowhere_are_told_with_all_places(
    settings: Settings, elsewhere: Elsewhere, root: Path
) -> None:
    found, media = made(settings)
    elsewhere.broken["local"] = restic_errors.KEY

    with pytest.raises(BedstoneError) as raised:
        media_snapshots.restore(media, found.path, root / "out", watch=lambda: None)

    assert "at none of the destinations" in raised.value.message
    assert "local fails: key" in raised.value.details


def test_only_what_is_new_takes_room(settings: Settings) -> None:
    found, media = made(settings)
    assert found.manifest is not None
    whole = replace(found.manifest, media=replace(media, bytes=10_000))

    same = create.estimate(whole, 1000, 10_000, deduplicated=True)
    more = create.estimate(whole, 1000, 15_000, deduplicated=True)

    assert more - same == 5000
