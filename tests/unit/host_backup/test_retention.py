"""Retention removes what has served its time, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone import backup, catalogue, manifest, retention
from bedstone.catalogue import Backup
from bedstone.manifest import Manifest

if TYPE_CHECKING:
    from bedstone.backup_settings import Settings

NOW = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def made(directory: Path, days: float, *, app: str = "payments", good: bool = True) -> Backup:
    started = NOW - timedelta(days=days)
    name = catalogue.free_name(directory, started)
    (directory / name).mkdir(parents=True)
    manifest.write(
        directory / name,
        Manifest(
            app=app, name=name, label=None, host="h", program="1", release=None, started=started,
            finished=started, database=None, media=None,
            files={} if good else {"lost": manifest.File(1, "")},
        ),
    )  # fmt: skip
    return catalogue.load(directory / name)


def expired(directory: Path, keep_at_least: int = 1) -> set[str]:
    return {
        found.name
        for found in retention.expired(
            catalogue.backups(directory),
            app="payments",
            now=NOW,
            keep_days=30,
            keep_at_least=keep_at_least,
        )
    }


def test_only_those_older_than_the_limit_go(tmp_path: Path) -> None:
    old = made(tmp_path, 30.1)
    made(tmp_path, 29.9)
    made(tmp_path, 0)
    assert expired(tmp_path) == {old.name}


def test_newest_good_one_stays_however_old(tmp_path: Path) -> None:
    made(tmp_path, 400)
    older = made(tmp_path, 500)
    damaged = made(tmp_path, 40, good=False)
    assert expired(tmp_path) == {older.name, damaged.name}


def test_at_least_so_many_good_ones_stay_when_the_clock_jumps(tmp_path: Path) -> None:
    for days in (1000, 1001, 1002, 1003):
        made(tmp_path, days)
    assert len(expired(tmp_path, keep_at_least=3)) == 1


def test_another_apps_backup_and_a_strangers_directory_stay(tmp_path: Path) -> None:
    made(tmp_path, 0)
    made(tmp_path, 99, app="other")
    stranger = tmp_path / "backup_20200101_000000"
    stranger.mkdir()
    (stranger / "manifest.json").write_text('{"kind": "something else"}')
    (tmp_path / "notes").mkdir()
    assert expired(tmp_path) == set()


def test_protected_names_stay(tmp_path: Path) -> None:
    made(tmp_path, 0)
    old = made(tmp_path, 99)
    found = catalogue.backups(tmp_path)
    assert not retention.expired(
        found, app="payments", now=NOW, keep_days=1, keep_at_least=1, protected={old.name}
    )


@given(days=st.lists(st.floats(0, 2000), min_size=1, max_size=12), keep=st.integers(1, 5))
def test_never_removes_the_newest_good_ones(days: list[float], keep: int) -> None:
    backups = [
        Backup(
            path=Path(f"backup_{number}"),
            manifest=Manifest(
                app="payments", name="", label=None, host="", program="", release=None,
                started=NOW - timedelta(days=age), finished=NOW, database=None, media=None,
                files={},
            ),
            problem=None,
        )
        for number, age in enumerate(sorted(days))
    ]  # fmt: skip
    gone = retention.expired(backups, app="payments", now=NOW, keep_days=30, keep_at_least=keep)
    assert not {b.name for b in backups[:keep]} & {b.name for b in gone}
    assert all(
        age > 30 for age in [(NOW - b.manifest.started).days + 1 for b in gone if b.manifest]
    )


def test_removal_that_is_killed_leaves_nothing_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made(tmp_path, 99)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bedstone.files.remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        retention.remove(old)
    assert catalogue.backups(tmp_path) == []
    assert [path.name for path in catalogue.leftovers(tmp_path)] == [f".deleting-{old.name}"]


@pytest.mark.usefixtures("postgres")
def test_backup_removes_what_is_old(settings: Settings) -> None:
    home = settings.directory / "payments"
    for _ in range(4):
        backup.create(settings, "payments")
    for found in catalogue.backups(home):
        assert found.manifest is not None
        long_ago = found.manifest.started - timedelta(days=99)
        manifest.write(found.path, replace(found.manifest, started=long_ago))
    result = backup.create(settings, "payments")
    # Two at least are kept: the new one and the newest of the old.
    assert len(result.removed) == 3
    assert len(catalogue.backups(home)) == 2
