"""The metrics of what lies on this server come from the backups' own manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bedstone.backup import create
from bedstone.status.metrics import Collector
from tests.unit.fixtures.backup import configure, media, postgres, root, settings

__all__ = ["configure", "media", "postgres", "root", "settings"]

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings


@pytest.mark.usefixtures("postgres")
def test_newest_backup_of_each_kind_with_its_size(settings: Settings) -> None:
    made = create.create(settings, "payments").backup
    create.create(settings, "payments", label="20261120_101500-v1", with_media=False)
    manifest = made.manifest
    assert manifest is not None
    assert manifest.media is not None
    families = {family.name: family.samples for family in Collector().gather()}
    moments = families["bedstone_backup_last_success_timestamp_seconds"]
    assert [labels["kind"] for labels, _ in moments] == ["dump", "media"]
    assert {value for _, value in moments} == {manifest.started.timestamp()}, "the full one"
    sizes = {labels["kind"]: value for labels, value in families["bedstone_backup_last_size_bytes"]}
    assert sizes["media"] == manifest.files[manifest.media.archive].bytes
    assert sum(sizes.values()) == manifest.bytes
    assert {value for _, value in families["bedstone_backup_failed"]} == {0}
