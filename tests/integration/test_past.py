"""A cluster of the past ends where it was asked to end, or says why it can't.

PostgreSQL and its WAL are real; in the place of pgBackRest stand copied files. What pgBackRest does
is tested in molecule/pgbackrest.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.pitr import cluster as past
from bedstone.pitr import recovery
from bedstone.pitr import window as past_window
from bedstone.pitr.cluster import GapError
from bedstone.pitr.window import UnreachableTimeError
from bedstone.postgres import temporary
from bedstone.storage.destinations import Destination
from bedstone.wal import fetch
from bedstone.wal import segments as pgbackrest_wal
from bedstone.wal.info import Backup, Info
from bedstone.wal.segments import Segment
from tests.integration.cluster import Cluster

OFFSITE = Destination("offsite", "sftp", 2, host="backup.example.com", user="b", path="/srv")
# The user that comes after PostgreSQL's own: any other account of the system.
OTHER = "daemon"


def identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def as_postgres(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/", **identity())
    assert done.returncode == 0, done.stderr


class Restartable(Cluster):
    """A cluster that takes up changed settings."""

    def restart(self) -> None:
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        process.wait(60)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                process.args, stdout=log, stderr=log, cwd=self.folder, **identity()
            )
        self._wait()


class Origin:
    """The cluster that is backed up, with an archive of its WAL."""

    def __init__(self, cluster: Restartable) -> None:
        self.cluster = cluster
        self.server = cluster.server
        self.archive = cluster.folder / "archive"
        self.home = cluster.folder / "backups"
        self.backups: list[Backup] = []
        as_postgres("mkdir", str(self.archive), str(self.home))
        self.server.execute(
            "ALTER SYSTEM SET archive_mode = on;"
            f"ALTER SYSTEM SET archive_command = 'cp %p {self.archive}/%f';"
            # What must not come along: nothing of this is on the other server.
            "ALTER SYSTEM SET max_prepared_transactions = 7;"
            "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';"
        )
        cluster.restart()
        self.server.execute("CREATE TABLE public.event (id bigserial, said text)")

    def say(self, text: str) -> datetime:
        """Commit something, and return the moment after it."""
        self.server.execute(f"INSERT INTO public.event (said) VALUES ('{text}')")
        return self.now()

    def now(self) -> datetime:
        moment = datetime.fromisoformat(self.server.rows("SELECT to_json(clock_timestamp())")[0])
        self.server.execute("SELECT pg_sleep(0.05)")
        return moment.astimezone(UTC)

    def archived(self) -> str:
        """End the segment and wait until it is archived."""
        name = self.server.execute(
            "SELECT pg_create_restore_point('x') \\g /dev/null\n"
            "SELECT pg_walfile_name(pg_switch_wal())"
        ).strip()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.server.value("SELECT last_archived_wal FROM pg_stat_archiver") >= name:
                return name
            self.server.execute("SELECT pg_sleep(0.05)")
        raise AssertionError(f"{name} wasn't archived")

    def back_up(self) -> Backup:
        started = self.now()
        label = f"2026112{len(self.backups)}-010000F"
        as_postgres(
            str(self.cluster.programs / "pg_basebackup"), f"--pgdata={self.home / label}",
            f"--host={self.cluster.folder}", "--username=postgres", "--checkpoint=fast",
            "--wal-method=none",
        )  # fmt: skip
        said = (self.home / label / "backup_label").read_text()
        first = said.split("(file ")[1][:24]
        made = Backup(
            label, "full", started, self.now(), 1, 30_000_000, (first, first), None, False, 1
        )
        self.backups.append(made)
        return made


@dataclass
class CopiedStanza:
    """What `bedstone.wal.stanza.Stanza` does, by copying files."""

    destinations: Any
    server: Any = None
    hide: set[str] = field(default_factory=set)
    fetch: str = 'cp {archive}/%f "%p"'

    def info(self, _: Destination) -> Info:
        origin: Origin = self.destinations
        names = [segment.name for segment in self.segments(OFFSITE, "15-1")]
        return Info(
            exists=True,
            backups=tuple(origin.backups),
            oldest_wal=min(names, default=None),
            newest_wal=max(names, default=None),
            archive="15-1",
        )

    def segments(self, _: Destination, __: str) -> tuple[Segment, ...]:
        origin: Origin = self.destinations
        return tuple(
            Segment(path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC))
            for path in sorted(origin.archive.iterdir())
            if len(path.name) == 24
        )

    def restore(self, _: Destination, into: Path, *, label: str = "", **__: object) -> str:
        origin: Origin = self.destinations
        as_postgres("cp", "-a", f"{origin.home / label}/.", str(into))
        settings = into / "postgresql.auto.conf"
        with settings.open("a") as file:
            file.write(f"restore_command = '{self.fetch.format(archive=origin.archive)}'\n")
        as_postgres("touch", str(into / "recovery.signal"))
        return label


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    cluster = Restartable()
    try:
        cluster.start()
        yield Origin(cluster)
    finally:
        cluster.stop()


@dataclass(frozen=True)
class History:
    """What has happened at the origin, and when."""

    first: Backup
    second: Backup
    before: datetime
    moments: dict[str, datetime]


@pytest.fixture(scope="module")
def history(origin: Origin) -> History:
    """Two backups with events before, between and after them; all of it archived."""
    before = origin.say("before all")
    first = origin.back_up()
    moments = {text: origin.say(text) for text in ("one", "two")}
    origin.server.execute(
        "BEGIN; INSERT INTO public.event (said) VALUES ('prepared'); PREPARE TRANSACTION 'left'"
    )
    origin.archived()
    moments["three"] = origin.say("three")
    second = origin.back_up()
    moments["four"] = origin.say("four")
    origin.server.execute("COMMIT PREPARED 'left'")
    moments["five"] = origin.say("five")
    origin.archived()
    return History(first, second, before, moments)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="bedstone-past-"))
    home.chmod(0o711)
    if os.geteuid() == 0:
        monkeypatch.setattr(temporary, "account", lambda: pwd.getpwnam(OTHER))
    place = home / "verify-0123456789ab"
    place.mkdir(mode=0o711)
    yield place
    shutil.rmtree(home)


@pytest.fixture
def bring_back(origin: Origin, place: Path) -> Callable[..., Any]:
    def bring_back(target: datetime | None = None, label: str | None = None, **options: Any) -> Any:
        stanza: Any = CopiedStanza(origin, **options)
        return past.cluster(stanza, OFFSITE, place, target, label)

    return bring_back


def events(server: Any) -> list[str]:
    return [str(said) for said in server.rows("SELECT to_json(said) FROM public.event ORDER BY id")]


def test_it_ends_at_the_moment_that_was_asked_for(
    bring_back: Callable[..., Any], history: History
) -> None:
    with bring_back(history.moments["one"]) as (server, ended_at, lsn):
        assert events(server) == ["before all", "one"]
        assert history.first.finished_at < ended_at <= history.moments["one"]
        assert "/" in lsn


def test_it_begins_with_the_newest_backup_before_the_moment(
    bring_back: Callable[..., Any], history: History
) -> None:
    with bring_back(history.moments["four"]) as (server, ended_at, _):
        assert events(server) == ["before all", "one", "two", "three", "four"]
        assert ended_at > history.second.finished_at


def test_without_a_moment_it_ends_with_the_last_transaction(
    bring_back: Callable[..., Any], history: History
) -> None:
    with bring_back() as past_cluster:
        assert (
            events(past_cluster.server)[-2:] == ["prepared", "five"]
            or events(past_cluster.server)[-1] == "five"
        )
        assert past_cluster.ended_at <= history.moments["five"]


def test_nothing_in_it_has_the_rights_of_postgresql_s_user_or_can_reach_the_origin(
    bring_back: Callable[..., Any], origin: Origin, history: History, place: Path
) -> None:
    with bring_back(history.moments["two"]) as (server, _, _):
        assert server.execute("COPY (SELECT 1) TO PROGRAM 'id -un > whoami'") == ""
        data = Path(server.value("SHOW data_directory"))
        assert data.is_relative_to(place)
        if os.geteuid() == 0:
            assert (data / "whoami").read_text().strip() == OTHER
            assert {path.owner() for path in (data, *data.rglob("*"))} == {OTHER}
        # No setting of the origin, no way to its archive.
        assert (data / "postgresql.auto.conf").read_text() == ""
        assert server.value("SHOW restore_command") == ""
        assert server.value("SHOW archive_mode") == "off"
        assert server.value("SHOW listen_addresses") == ""
        assert server.value("SHOW autovacuum") == "off"
        archived = len(list(origin.archive.iterdir()))
        server.execute("INSERT INTO public.event (said) VALUES ('beside'); SELECT pg_switch_wal()")
    assert len(list(origin.archive.iterdir())) == archived
    assert "beside" not in events(origin.server)


def failing_at(origin: Origin, segment: str, code: int, words: str) -> str:
    """Return the path of a program in pgBackRest's place that can't fetch one segment."""
    program = origin.cluster.folder / f"fetch-{code}"
    program.write_text(
        f'#!/bin/sh\n[ "$1" != {segment} ] || {{ echo "{words}"; exit {code}; }}\n'
        f'exec cp {origin.archive}/"$1" "$2"\n'
    )
    program.chmod(0o755)
    return f'{program} %f "%p"'


@pytest.mark.parametrize("moment", [None, "five"])
def test_destination_that_fails_on_the_way_is_not_the_end_of_the_wal(
    bring_back: Callable[..., Any],
    origin: Origin,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
    moment: str | None,
) -> None:
    monkeypatch.setattr(fetch, "guarded", partial(fetch.guarded, pause_seconds=0.1))
    last = max(path.name for path in origin.archive.iterdir() if len(path.name) == 24)
    command = failing_at(origin, last, 103, "ERROR: [103]: unable to find a valid repository")
    target = history.moments[moment] if moment else None
    with pytest.raises(BedstoneError, match="could not be fetched from offsite") as stopped:
        bring_back(target, fetch=command).__enter__()
    assert "unable to find a valid repository" in str(stopped.value.details)


def test_damaged_segment_is_the_end_of_the_wal_and_is_told(
    bring_back: Callable[..., Any], origin: Origin, history: History
) -> None:
    del history
    last = max(path.name for path in origin.archive.iterdir() if len(path.name) == 24)
    words = f"ERROR: [042]: unable to get {last}: repo1: x.zst [FormatError] zst error: [-20] Data"
    with pytest.raises(GapError, match=f"although the segment {last} is there"):
        bring_back(fetch=failing_at(origin, last, 42, words)).__enter__()


def test_it_is_gone_with_the_block(bring_back: Callable[..., Any], history: History) -> None:
    with bring_back(history.moments["one"]) as (server, _, _):
        assert events(server)
    with pytest.raises(BedstoneError):
        server.execute("SELECT 1", timeout=5)


def test_moment_before_the_oldest_backup_names_what_can_be_reached(
    bring_back: Callable[..., Any], history: History
) -> None:
    with pytest.raises(UnreachableTimeError, match="oldest backup was complete at") as refused:
        bring_back(history.before).__enter__()
    assert past_window.text_of(history.first.finished_at) in str(refused.value.hint)
    assert "the earliest" in str(refused.value.hint)
    assert "the latest" in str(refused.value.hint)


def test_moment_in_the_future_names_what_can_be_reached(
    bring_back: Callable[..., Any], history: History
) -> None:
    with pytest.raises(UnreachableTimeError, match="is in the future") as refused:
        bring_back(datetime.now(UTC) + timedelta(hours=1)).__enter__()
    assert past_window.text_of(history.first.finished_at) in str(refused.value.hint)


def test_moment_after_the_last_archived_transaction_is_no_latest(
    bring_back: Callable[..., Any], origin: Origin, history: History, place: Path
) -> None:
    later = origin.say("not archived")
    with pytest.raises(UnreachableTimeError, match="the WAL there ends at") as refused:
        bring_back(later).__enter__()
    hint = str(refused.value.hint)
    assert f"The earliest moment there is {past_window.text_of(history.first.finished_at)}" in hint
    assert "the latest" in hint
    latest = hint.rsplit("the latest ", 1)[1].removesuffix(" UTC.")
    last = datetime.fromisoformat(latest).replace(tzinfo=UTC)
    assert last <= history.moments["five"]
    # That one can be reached.
    shutil.rmtree(place)
    place.mkdir(mode=0o711)
    with bring_back(last) as (server, ended_at, _):
        assert events(server)[-1] == "five"
        assert ended_at == last


@contextlib.contextmanager
def without(origin: Origin, segment: str) -> Iterator[None]:
    path = origin.archive / segment
    aside = origin.archive / f"{segment}.aside"
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def test_moment_behind_a_hole_names_both_sides_of_it(
    bring_back: Callable[..., Any], origin: Origin, history: History
) -> None:
    # The second segment after the first backup; what was said third is in it or behind it.
    hole = pgbackrest_wal.name_of(
        pgbackrest_wal.number(history.first.wal[0]) + 1, history.first.wal[0][:8]
    )
    with (
        without(origin, hole),
        pytest.raises(UnreachableTimeError, match="has a hole after") as refused,
    ):
        bring_back(history.moments["three"]).__enter__()
    assert hole in refused.value.message
    assert past_window.text_of(history.second.finished_at) in str(refused.value.hint)


def test_hole_before_the_newest_wal_is_told_although_postgresql_ends_quietly(
    bring_back: Callable[..., Any], origin: Origin, history: History
) -> None:
    hole = pgbackrest_wal.name_of(
        pgbackrest_wal.number(history.second.wal[0]) + 1, history.second.wal[0][:8]
    )
    newest = max(path.name for path in origin.archive.iterdir() if len(path.name) == 24)
    if hole >= newest:
        origin.say("six")
        origin.archived()
    with without(origin, hole), pytest.raises(past.GapError, match="although the segment") as told:
        bring_back().__enter__()
    assert hole in str(told.value.hint)


def test_cluster_of_a_postgresql_that_is_not_here_is_told(
    bring_back: Callable[..., Any], history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = recovery.fetched

    def of_another_version(*args: Any, **kwargs: Any) -> tuple[Path, str]:
        data, command = fetched(*args, **kwargs)
        (data / "PG_VERSION").write_text("99\n")
        return data, command

    monkeypatch.setattr(recovery, "fetched", of_another_version)
    with pytest.raises(BedstoneError, match="of PostgreSQL 99") as told:
        bring_back(history.moments["one"]).__enter__()
    assert "postgresql-99" in str(told.value.hint)


def test_too_little_room_is_refused_before_anything_is_fetched(
    origin: Origin, history: History, place: Path
) -> None:
    stanza: Any = CopiedStanza(origin)
    with pytest.raises(RefusedError, match="has to leave"):
        past.cluster(
            stanza, OFFSITE, place, history.moments["one"], reserve_bytes=10**18
        ).__enter__()
    assert list(place.iterdir()) == []


def test_window_is_from_the_first_backup_to_the_newest_wal(
    origin: Origin, history: History
) -> None:
    stanza: Any = CopiedStanza(origin)
    window = past_window.compute(stanza, OFFSITE)
    assert window.earliest == history.first.finished_at
    assert window.latest is not None
    assert window.latest >= history.moments["five"]
    assert window.holes == ()
