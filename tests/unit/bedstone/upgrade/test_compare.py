"""What clusters hold, how they differ, and what waits for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.cli import main
from bedstone.core import lock
from bedstone.core.errors import BedstoneError
from bedstone.core.process import Completed
from bedstone.core.terminal import Paint
from bedstone.postgres import compare
from bedstone.postgres.debian_cluster import Cluster, all_clusters
from bedstone.system import apt
from bedstone.upgrade import journal, pending, preflight, status
from bedstone.wal import backup

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import Settings

POLICY = """postgresql-17:
  Installed: 17.11-0+deb13u1
  Candidate: {candidate}
  Version table:
     17.12-0+deb13u1 500
 *** 17.11-0+deb13u1 500
        100 /var/lib/dpkg/status
"""
WAITS = POLICY.format(candidate="17.12-0+deb13u1")
IS_NEWEST = POLICY.format(candidate="17.11-0+deb13u1")


@pytest.fixture
def root(tmp_path: Path, settings: Settings) -> Path:
    del settings
    return tmp_path


def _cluster(root: Path, major: int, start: str, *files: str) -> Cluster:
    place = root / f"etc/postgresql/{major}/main"
    place.mkdir(parents=True)
    text = f"# Automatic startup configuration\n#   auto: at boot\n\n{start}\n"
    (place / "start.conf").write_text(text)
    for name in files:
        path = root / f"var/lib/postgresql/{major}/main/base" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Cluster(major)


def _apt_says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(apt, "run", lambda argv, **_: Completed(tuple(argv), 0, text, "", 0.1))


def test_a_cluster_as_its_package_leaves_it_is_empty(root: Path) -> None:
    assert _cluster(root, 17, "auto", "1/1255", "4/1255_fsm", "5/PG_VERSION", "5/2619.1").is_empty()


@pytest.mark.parametrize("own", ["16384/1255", "5/16385", "5/16400_fsm", "5/24576.2"])
def test_a_cluster_in_which_something_was_made_is_not_empty(root: Path, own: str) -> None:
    assert not _cluster(root, 17, "auto", "1/1255", own).is_empty()


def test_the_comments_of_start_conf_do_not_count(root: Path) -> None:
    found = [_cluster(root, 17, "manual"), _cluster(root, 15, "auto")]
    assert [each.starts() for each in found] == ["manual", "auto"]
    assert [each.major for each in all_clusters()] == [15, 17]
    assert Cluster(13).starts() is None


def test_differences_name_what_is_missing_new_or_other() -> None:
    before: dict[str, Any] = {
        "roles": {"app": {"password": "a"}, "gone": {}},
        "databases": {"shop": {"owner": "one", "extensions": ["a", "b"]}},
        "rows": {"shop": {"public.order": 3, "public.item": 4}},
    }
    after: dict[str, Any] = {
        "roles": {"app": {"password": "b"}, "more": {}},
        "databases": {"shop": {"owner": "one", "extensions": ["a"]}},
        "rows": {"shop": {"public.order": 2, "public.item": 4}},
    }
    assert compare.differences(before, after) == [
        "role app: password: a before, b now",
        "role gone: is missing",
        "role more: is new",
        "database shop: extensions: without b",
        "database shop: table public.order: 3 rows before, 2 now",
    ]
    assert compare.differences(before, before) == []


def test_what_waits_is_remembered_from_the_first_look(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _apt_says(monkeypatch, WAITS)
    first = pending.waiting(17)
    assert first is not None
    assert (first.installed, first.candidate) == ("17.11-0+deb13u1", "17.12-0+deb13u1")
    journal.record(
        "waiting",
        {
            "what": ["postgresql-17", "17.12-0+deb13u1"],
            "since": (datetime.now(UTC) - timedelta(days=9)).isoformat(),
        },
    )
    later = pending.waiting(17)
    assert later is not None
    assert (later.days, later.late) == (9, True)
    # The time starts again only when the newer version is another.
    _apt_says(monkeypatch, IS_NEWEST)
    assert pending.waiting(17) is None
    assert not (root / "var/lib/bedstone/upgrade/waiting.json").exists()


@pytest.mark.parametrize(
    ("days", "red"), [(0, False), (pending.MOST_DAYS - 1, False), (pending.MOST_DAYS, True)]
)
def test_the_status_is_red_when_it_has_waited_too_long(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, days: int, red: bool
) -> None:
    _cluster(root, 17, "auto")
    _apt_says(monkeypatch, WAITS)
    journal.record(
        "waiting",
        {
            "what": ["postgresql-17", "17.12-0+deb13u1"],
            "since": (datetime.now(UTC) - timedelta(days=days, minutes=1)).isoformat(),
        },
    )
    shown = status.upgrade_status()
    assert bool(status.problems(shown)) is red
    [line] = status.lines(shown, Paint(on=False))
    assert "17.12-0+deb13u1 waits (`bedstone upgrade postgresql`)" in line


def test_the_status_names_an_interrupted_upgrade_and_a_cluster_that_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cluster(root, 17, "auto")
    _cluster(root, 15, "manual")
    _apt_says(monkeypatch, IS_NEWEST)
    journal.record("last", {"serves": 17, "other": 15, "at": "2026-11-20T10:00:00+00:00"})
    journal.Journal(source=15, target=17, port=5432, phase=journal.BEGUN).saved()
    shown = status.upgrade_status()
    [problem] = status.problems(shown)
    assert "interrupted" in problem
    [line] = status.lines(shown, Paint(on=False))
    assert "PostgreSQL 15 of before the upgrade is kept, stopped, since 2026-11-20" in line


def test_where_no_postgresql_is_nothing_is_said(root: Path) -> None:
    assert root.exists()
    assert status.upgrade_status() is None
    assert status.problems(None) == []


def test_a_damaged_journal_says_what_to_do(root: Path) -> None:
    journal.Journal(source=15, target=17, port=5432).saved()
    journal.path().write_text(json.dumps({"source": 15}))
    with pytest.raises(BedstoneError, match="interrupted upgrade") as caught:
        journal.load()
    assert root.exists()
    assert "pg_lsclusters" in str(caught.value.hint)


@pytest.mark.parametrize("name", [backup.LOCK, "payments.backup"])
def test_a_backup_at_work_is_waited_for(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("bedstone.apps.config.declared", lambda: ["payments"])
    assert list(preflight.busy(settings)) == []
    with lock.held(name, "a backup of a test"):
        (said,) = preflight.busy(settings)
    assert root.exists()
    assert "a backup of a test" in said
    assert "wait until it has finished" in said


def test_rehearse_goes_with_a_version(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "etc/bedstone").mkdir(parents=True)
    monkeypatch.setattr("bedstone.backup.settings.load", lambda: None)
    assert main.main(["upgrade", "postgresql", "--rehearse"]) == 1
    assert "--rehearse goes with --to" in capsys.readouterr().err
