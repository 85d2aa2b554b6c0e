"""What is for an hour ends with the hour: places, their processes, and which PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import create, media
from bedstone.core import scratch
from bedstone.core.deadline import OutOfTimeError, limit
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import temporary
from bedstone.storage import tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.postgres.dump import Database


@contextmanager
def process(program: str, argument: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run something that calls itself ``program`` and does nothing for a while."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    copy = directory / program
    shutil.copy(sleep, copy)
    # Its first argument, by which programs are called, is free.
    started = subprocess.Popen([argument, "60"], executable=copy)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_place_is_gone_after_the_block_whatever_happens_in_it(home: Path) -> None:
    def interrupted() -> None:
        with scratch.place(home, app="payments", backup=None) as place:
            (place / "file").touch()
            assert place.with_suffix(".json").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(home.iterdir()) == []


def test_others_may_walk_through_but_not_look_whatever_the_umask(home: Path) -> None:
    before = os.umask(0o077)
    try:
        with scratch.place(home) as place:
            assert home.stat().st_mode & 0o777 == 0o711
            assert place.stat().st_mode & 0o777 == 0o711
    finally:
        os.umask(before)


def test_link_is_no_home(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    home.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="Others than root"), scratch.place(home):
        pass


def test_what_a_killed_one_left_running_is_ended_and_nobody_elses_is(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    with scratch.place(home, app="payments") as place:
        # As a kill would leave them.
        marker = place.with_suffix(".json").read_text()
    place.mkdir()
    place.with_suffix(".json").write_text(marker)
    inside, outside = f"{place}/cluster", "/var/lib/postgresql/17/main"
    with (
        process("postgres", inside, tmp_path / "bin") as left,
        process("vim", inside, tmp_path / "bin") as persons,
        process("tar", outside, tmp_path / "bin") as others,
    ):
        assert scratch.running(place) == [left.pid]
        (about,) = scratch.clear(home)
        assert left.wait() != 0
        assert persons.poll() is None
        assert others.poll() is None
    assert about["app"] == "payments"
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize(
    ("installed", "dumped", "chosen"),
    [((15, 17), 15, 15), ((15, 17), 16, 17), ((17,), 9, 17), ((9, 10), 9, 9)],
)
def test_dump_is_restored_with_its_own_version_or_the_next_newer_one(
    settings: Settings, root: Path, installed: tuple[int, ...], dumped: int, chosen: int
) -> None:
    _install(root, *installed)
    assert temporary.major_for(_dumped(settings, dumped), "backup") == chosen


@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize("installed", [(), (15,)])
def test_dump_of_a_newer_version_is_told(
    settings: Settings, root: Path, installed: tuple[int, ...]
) -> None:
    _install(root, *installed)
    with pytest.raises(BedstoneError, match="PostgreSQL 16, which is too new for this server"):
        temporary.major_for(_dumped(settings, 16), "backup")


def _install(root: Path, *majors: int) -> None:
    for major in majors:
        program = root / f"usr/lib/postgresql/{major}/bin/initdb"
        program.parent.mkdir(parents=True)
        program.touch()


def _dumped(settings: Settings, major: int) -> Database:
    found = create.create(settings, "payments").backup.manifest
    assert found is not None
    assert found.database is not None
    return replace(found.database, server_major=major)


def test_unpacked_media_have_the_bytes_that_were_archived(tmp_path: Path) -> None:
    source = tmp_path / "media"
    (source / "new\nline").mkdir(parents=True)
    (source / "invoice of may.pdf").write_text("x" * 1000)
    os.link(source / "invoice of may.pdf", source / "new\nline/the same")
    (source / "link").symlink_to("nowhere")
    (source / "empty").touch()
    os.mkfifo(source / "pipe")
    backup_directory = tmp_path / "backup"
    backup_directory.mkdir()
    archived = media.archive(source, backup_directory, watch=lambda: None)
    assert (archived.files, archived.bytes) == (5, 1000)

    unpacked = tmp_path / "unpacked"
    tar.extract(backup_directory / archived.archive, unpacked, watch=lambda: None, sync=False)
    assert (media.count(unpacked), media.regular_bytes(unpacked)) == (5, 1000)


def test_limit_ends_what_takes_too_long() -> None:
    with pytest.raises(OutOfTimeError, match="its time limit was reached"), limit(0, "It"):
        subprocess.run(["sleep", "60"], check=True)


def test_limit_that_is_kept_leaves_nothing_behind() -> None:
    with limit(60, "It"):
        done = subprocess.run(["true"], check=True)
    assert done.returncode == 0
