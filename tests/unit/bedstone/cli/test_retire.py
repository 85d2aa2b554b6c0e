"""Retired apps: shown until their month is over, then removed by a timer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone import watch
from bedstone.cli import main
from bedstone.core import paths
from bedstone.core.process import Completed
from bedstone.core.terminal import Paint
from bedstone.release import retire
from bedstone.status import gather, screen
from bedstone.system.docker import Docker
from bedstone.system.host import Host
from bedstone.system.systemd import Systemd
from tests.unit.fixtures.checkout import ROOT

UNITS = ROOT / "roles/host_program/templates/host_program/etc/systemd/system"


def quiet(argv: Sequence[str], **_: Any) -> Completed:
    return Completed(tuple(argv), 0, "", "", 0.0)


def retired(app: str, days: int) -> Path:
    """Lay out an app that was retired so many days ago."""
    directory = paths.app_state(app)
    directory.mkdir(parents=True)
    moment = datetime.now(UTC) - timedelta(days=days)
    (directory / "retired.json").write_text(json.dumps({"at": moment.isoformat(), "domains": []}))
    return directory


@pytest.fixture
def apps(declared: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    del declared
    monkeypatch.setattr(retire, "Host", lambda: Host(run=quiet))
    return retired("old", 31), retired("young", 29)


def test_timer_removes_what_is_past_its_month(
    apps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, young = apps
    assert main.main(["retire", "--prune"]) == 0
    assert capsys.readouterr().out == (
        "old: its images and releases were removed, its data is kept\n"
    )
    assert not old.exists()
    assert young.exists()
    # Hourly, and a failure of it is no failure of the alarms.
    text = (UNITS / "bedstone-alarms.service.j2").read_text()
    assert "ExecStart=-/usr/local/bin/bedstone retire --prune\n" in text


def test_prune_takes_no_name(apps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["retire", "--prune", "young"]) == 3
    assert "--prune goes without a name" in capsys.readouterr().err
    assert all(path.exists() for path in apps)


def test_status_says_until_when_a_retired_app_is_kept(declared: Path) -> None:
    del declared
    retired("young", 29)
    tools = gather.Tools(
        systemd=Systemd(quiet),
        docker=Docker(quiet),
        database=lambda: None,
        wal=lambda: None,
        upgrades=lambda: None,
        alarms=lambda **_: watch.Look(datetime.now(UTC), [], []),
    )
    picture = gather.gather(tools)
    (entry,) = picture["retired"]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert entry["kept_until"][:10] == f"{tomorrow:%Y-%m-%d}"
    assert f"stay until {tomorrow:%Y-%m-%d}" in screen.render(picture, Paint())
