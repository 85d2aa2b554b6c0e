"""The cluster is restored next to the empty one and replaces it by two renames, despite kills."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bedstone.backup import settings as backup_settings
from bedstone.backup.settings import Settings
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import dump
from bedstone.postgres.server import Server
from bedstone.rebuild import cluster
from bedstone.rebuild import journal as rebuild_journal
from bedstone.rebuild.cluster import Recovered
from bedstone.rebuild.journal import Journal
from bedstone.storage.destinations import Destination
from bedstone.wal.info import Info

OFFSITE = Destination("offsite", "sftp", 2, host="backup.example.com", user="b", path="/srv/b")


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    data = tmp_path / "var/lib/postgresql/17/main"
    data.mkdir(parents=True)
    (data / "which").write_text("empty")
    made = rebuild_journal.begin("offsite", datetime(2026, 11, 20, 17, tzinfo=UTC), data)
    made.side.mkdir()
    (made.side / "which").write_text("recovered")
    return made


def settings(**databases: str | None) -> Settings:
    return backup_settings.parse(
        {
            "schema": 1,
            "directory": "/var/backups/bedstone",
            "keep_days": 30,
            "keep_at_least": 3,
            "reserve_mb": 1,
            "jobs": 1,
            "socket": "/run/postgresql",
            "port": 5432,
            "databases": [
                {"app": app, "name": name, "owner": f"{name}_owner"}
                for app, name in databases.items()
                if name
            ],
            "media": [],
        }
    )


def recovered(*databases: str, lsn: str = "0/5000000") -> Recovered:
    return Recovered("20261120-010000F", lsn, None, databases)


def test_a_journal_is_read_back_as_it_was_written(journal: Journal) -> None:
    assert rebuild_journal.load() == journal
    assert journal.target == "2026-11-20T17:00:00+00:00"
    later = journal.at(rebuild_journal.CLUSTER, lsn="0/1").at(rebuild_journal.FILES, media={})
    assert rebuild_journal.load() == later
    assert later.facts == {"lsn": "0/1", "media": {}}


def test_a_finished_rebuild_leaves_no_journal(journal: Journal) -> None:
    del journal
    rebuild_journal.clear()
    rebuild_journal.clear()
    assert rebuild_journal.load() is None


@pytest.mark.parametrize("text", ["", "{}", '{"phase": "beside", "colour": "red"}'])
def test_a_damaged_journal_is_told_with_what_to_do(journal: Journal, text: str) -> None:
    del journal
    rebuild_journal.path().write_text(text)
    with pytest.raises(BedstoneError) as caught:
        rebuild_journal.load()
    assert "remove the file" in (caught.value.hint or "")


@pytest.mark.parametrize("done", [0, 1, 2])
def test_the_renames_are_finished_wherever_they_were_killed(journal: Journal, done: int) -> None:
    data = Path(journal.data)
    if done > 0:
        data.rename(journal.before)
    if done > 1:
        journal.side.rename(data)
    cluster.rename(journal)
    assert (data / "which").read_text() == "recovered"
    assert (journal.before / "which").read_text() == "empty"
    assert not journal.side.exists()


def test_what_an_earlier_rebuild_put_aside_is_replaced(journal: Journal) -> None:
    journal.before.mkdir()
    (journal.before / "which").write_text("older")
    cluster.rename(journal)
    assert (journal.before / "which").read_text() == "empty"


def test_databases_with_rows_are_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"postgres": {}, "pay": {"public.orders": 7, "public.empty": 0}}
    monkeypatch.setattr(dump, "count", lambda _server, name: rows[name])
    server = cast("Server", SimpleNamespace(rows=lambda _query: list(rows)))
    with pytest.raises(RefusedError) as caught:
        cluster.require_empty(server)
    assert caught.value.details == "pay: public.orders has 7 rows"


def test_tables_without_rows_are_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "count", lambda _server, _name: {"public.orders": 0})
    server = cast("Server", SimpleNamespace(rows=lambda _query: ["pay"]))
    cluster.require_empty(server)


def test_another_version_of_postgresql_is_refused_with_what_to_set() -> None:
    server = cast("Server", SimpleNamespace(major=lambda: 17))
    with pytest.raises(RefusedError) as caught:
        cluster.require_fit(Info(exists=True, version="15"), server, OFFSITE)
    assert 'postgresql_version: "15"' in (caught.value.hint or "")
    cluster.require_fit(Info(exists=True, version="17"), server, OFFSITE)


def test_a_cluster_without_any_of_our_databases_is_another_servers() -> None:
    with pytest.raises(RefusedError) as caught:
        cluster.require_ours(settings(payments="payments"), recovered("wiki"), OFFSITE)
    assert "another server's" in caught.value.message


def test_an_app_that_is_newer_than_the_backup_is_no_reason_to_stop() -> None:
    declared = settings(payments="payments", shop="shop")
    assert cluster.require_ours(declared, recovered("payments"), OFFSITE) == ["shop"]


@pytest.mark.parametrize(
    ("lsn", "newest", "told"),
    [
        ("0/5000000", "000000010000000000000004", False),
        ("0/5000001", "000000010000000000000005", False),
        ("0/5000000", "000000010000000000000005", True),
        ("0/5000000", None, False),
    ],
)
def test_a_hole_in_the_log_is_told(lsn: str, newest: str | None, *, told: bool) -> None:
    found = Info(exists=True, newest_wal=newest)
    assert bool(cluster.hole(found, recovered(lsn=lsn))) is told


def test_the_journal_is_plain_json(journal: Journal) -> None:
    kept: dict[str, Any] = json.loads(rebuild_journal.path().read_text())
    assert kept["destination"] == journal.destination
    assert rebuild_journal.path().stat().st_mode & 0o777 == 0o600
