"""After an upgrade, a repository holds two clusters: the present one, and the one before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from bedstone.core.errors import RefusedError
from bedstone.pitr import window as past_window
from bedstone.rebuild import cluster
from bedstone.storage.destinations import Destination
from bedstone.wal.info import Backup, Info
from bedstone.wal.observe import judge
from bedstone.wal.segments import Segment, name_of

if TYPE_CHECKING:
    from bedstone.postgres.server import Server
    from bedstone.wal.stanza import Stanza

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LINE = "00000001"
OLD = Backup(
    label="20261120-010000F",
    type="full",
    started_at=NOW - timedelta(hours=11),
    finished_at=NOW - timedelta(hours=11),
    bytes=1,
    original_bytes=1,
    wal=(name_of(10, LINE), name_of(10, LINE)),
    prior=None,
    damaged=False,
    database=1,
)
NEW = replace(
    OLD,
    label="20261120-110000F",
    finished_at=NOW - timedelta(hours=1),
    wal=(name_of(20, LINE), name_of(20, LINE)),
    database=2,
)
# What was archived since: the new cluster's log begins behind the old one's.
SEGMENTS = [Segment(name_of(number, LINE), NOW) for number in range(18, 23)]
UPGRADED = Info(exists=True, backups=(OLD,), archive="17-2", version="17", database=2)
BACKED_UP = replace(UPGRADED, backups=(OLD, NEW))
OFFSITE = Destination("offsite", "s3", 2)


def window(info: Info) -> past_window.Window:
    stanza = SimpleNamespace(info=lambda _: info, segments=lambda *_: SEGMENTS)
    return past_window.compute(cast("Stanza", stanza), OFFSITE)


def test_the_newest_backup_is_one_of_the_present_cluster() -> None:
    assert UPGRADED.newest is None
    assert BACKED_UP.newest == NEW
    assert replace(BACKED_UP, database=None).newest == NEW


def test_a_moment_of_before_leads_to_the_former_clusters_backup() -> None:
    assert BACKED_UP.for_moment(NOW - timedelta(hours=2)) == OLD


def test_between_the_clusters_no_log_is_missing() -> None:
    found = window(BACKED_UP)
    assert found.holes == ()
    assert found.earliest == NEW.finished_at
    assert "From 2026-11-20 01:00:00 UTC on it has the cluster before" in found.words()
    assert judge(BACKED_UP, SEGMENTS, name_of(23, LINE), NOW, 60) is None


def test_until_its_first_backup_the_present_cluster_has_none() -> None:
    said = judge(UPGRADED, SEGMENTS, name_of(23, LINE), NOW, 60)
    assert said is not None
    assert "no backup of the cluster yet" in said
    words = window(UPGRADED).words()
    assert "no backup of the cluster" in words
    assert "the cluster before PostgreSQL's upgrade" in words


def test_a_rebuild_to_a_moment_before_the_upgrade_is_refused() -> None:
    server = cast("Server", SimpleNamespace(major=lambda: 17))
    cluster.require_fit(BACKED_UP, server, OFFSITE, NOW)
    with pytest.raises(RefusedError, match="before the cluster at offsite came to PostgreSQL 17"):
        cluster.require_fit(BACKED_UP, server, OFFSITE, NOW - timedelta(hours=2))
