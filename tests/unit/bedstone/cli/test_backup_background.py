"""A backup that an operator starts doesn't keep other processes from the processors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import catalog
from bedstone.backup import settings as backup_settings
from bedstone.cli import main
from bedstone.system import priority
from tests.unit.fixtures.backup import (
    configure,
    in_a_process_of_its_own,
    media,
    postgres,
    root,
    settings,
)

__all__ = ["configure", "media", "postgres", "root", "settings"]

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import Settings


@pytest.fixture
def programs(tmp_path: Path, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs before systemd's, which write down how they are called, and say where."""
    home = tmp_path / "bin"
    home.mkdir()
    for name in ("busctl", "ionice"):
        program = home / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\nexit 1\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    cgroup.write_text("0::/user.slice/user-0.slice/session-3.scope\n")
    return tmp_path


def niceness_afterwards() -> int:
    """Return how nice a process is that has stepped back."""
    before = os.nice(0)

    def child() -> None:
        priority.step_back()
        os._exit(os.nice(0) - before)

    return in_a_process_of_its_own(child)


def test_it_moves_beside_the_services_with_the_weights_of_the_unit(programs: Path) -> None:
    assert niceness_afterwards() == priority.NICE

    classes, moved = (programs / "called").read_text().splitlines()
    assert classes.startswith("ionice --class 2 --classdata 7 --pid ")
    assert "StartTransientUnit ssa(sv)a(sa(sv)) bedstone-by-hand-" in moved
    assert "CPUWeight t 20 IOWeight t 20" in moved


def test_a_unit_of_ours_has_its_weights_already(programs: Path, cgroup: Path) -> None:
    cgroup.write_text("0::/system.slice/bedstone-backup.service\n")

    assert niceness_afterwards() == 0

    assert not (programs / "called").exists()


@pytest.mark.usefixtures("postgres")
def test_a_server_without_systemd_gets_its_backup_all_the_same(
    settings: Settings, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "nice", lambda _: 0)
    for name in ("busctl", "ionice"):
        (programs / "bin" / name).write_text("#!/nowhere/at/all\n")

    assert main.main(["backup"]) == 0

    assert catalog.newest(settings.directory / "payments") is not None


@pytest.mark.parametrize(("processors", "jobs"), [(1, 1), (2, 1), (3, 2), (4, 3), (16, 4)])
def test_a_processor_is_left_to_the_app(processors: int, jobs: int) -> None:
    assert backup_settings.default_dump_jobs(processors) == jobs
