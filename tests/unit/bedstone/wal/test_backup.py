"""A backup goes to each destination and is checked there; one failure affects no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone.core import disk, lock
from bedstone.ledger import database, verifications
from bedstone.ledger.verifications import Verification
from bedstone.postgres.server import Server
from bedstone.storage.destinations import Destination, Destinations, PointInTime
from bedstone.wal import backup as pgbackrest_run
from bedstone.wal import observe
from bedstone.wal.backup import Outcome
from bedstone.wal.errors import UnreachableError
from bedstone.wal.info import Backup, Info
from bedstone.wal.stanza import Kind, Stanza

LOCAL = Destination("local", "local", 1)
OFFSITE = Destination("offsite", "sftp", 2, host="h", user="u", path="/p")
BUCKET = Destination("bucket", "s3", 3)
KNOWN = Destinations((LOCAL, OFFSITE, BUCKET), PointInTime("main", 7, 2, 60))


class World(Stanza):
    """Repositories in memory."""

    def __init__(self) -> None:
        super().__init__(KNOWN, server=Server("/run", 5432))
        self.there: dict[str, list[Backup]] = {found.name: [] for found in KNOWN.all}
        self.away: set[str] = set()
        self.silent: set[str] = set()
        self.expired: list[tuple[str, int]] = []
        self.unfinished: Path | None = None
        self.clock = datetime.now(UTC) - timedelta(days=40)

    def info(self, destination: Destination) -> Info:
        if destination.name in self.away:
            raise UnreachableError(f"{destination.name} can't be reached")
        return Info(exists=True, backups=tuple(self.there[destination.name]))

    def is_ours(self, destination: Destination) -> bool:
        return self.info(destination).exists

    def ready(self, destination: Destination) -> Info:
        return self.info(destination)

    def backup(
        self, kind: Kind, destination: Destination, *, watch: Callable[[], None] | None = None
    ) -> Info:
        assert (watch is not None) == destination.is_local
        if watch is not None and self.unfinished is not None:
            (self.unfinished / "bundle").mkdir(parents=True)
            watch()
        there = self.there[destination.name]
        self.clock += timedelta(days=1)
        label = f"{self.clock:%Y%m%d-%H%M%S}F"
        if kind == "incr" and there:
            label = f"{there[-1].full}_{self.clock:%Y%m%d-%H%M%S}I"
        made = Backup(
            label=label,
            type="incr" if "_" in label else "full",
            started_at=self.clock,
            finished_at=self.clock,
            bytes=7,
            original_bytes=70,
            wal=("000000010000000000000001", "000000010000000000000001"),
            prior=None,
            damaged=False,
            database=1,
        )
        if destination.name not in self.silent:
            there.append(made)
        return self.info(destination)

    def expire(self, destination: Destination, keep_full: int) -> None:
        self.expired.append((destination.name, keep_full))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(observe, "measure", lambda *_: None)
    return World()


def run(world: World, kind: Kind = "full", *, said: list[str] | None = None) -> dict[str, Outcome]:
    say = (said if said is not None else []).append
    outcomes = pgbackrest_run.everywhere(world, kind, world.repositories, say=say)
    return {outcome.destination: outcome for outcome in outcomes}


def test_each_destination_gets_its_own(world: World) -> None:
    said: list[str] = []
    outcomes = run(world, said=said)
    assert [outcome.error for outcome in outcomes.values()] == [None, None, None]
    assert [len(found) for found in world.there.values()] == [1, 1, 1]
    assert said[0].startswith("local: ")
    assert "7 B" in said[0]


def test_one_that_is_away_keeps_no_other_from_its_backup(world: World) -> None:
    world.away.add("offsite")
    said: list[str] = []
    outcomes = run(world, said=said)
    assert isinstance(outcomes["offsite"].error, UnreachableError)
    assert outcomes["bucket"].backup is not None
    assert said[1] == "offsite: FAILED: offsite can't be reached"


def test_damaged_ledger_keeps_no_destination_from_its_backup(world: World) -> None:
    with database.opened() as connection:
        connection.execute("DROP TABLE verifications")
    outcomes = run(world)
    assert all(outcome.backup is not None for outcome in outcomes.values())
    assert "the ledger fails: no such table" in outcomes["local"].warnings[0]
    assert world.expired == []


def test_backup_that_is_not_there_is_none(world: World) -> None:
    run(world)
    world.silent.add("bucket")
    outcome = run(world)["bucket"]
    assert outcome.error is not None
    assert "calls the backup done, but there is no new one at bucket" in outcome.error.message


def test_old_chains_go_after_a_new_one_is_there(world: World) -> None:
    for _ in range(6):
        run(world)
    assert world.expired[-1][1] == 2
    assert world.expired[-1][0] == "bucket"


def test_retention_of_an_immutable_destination_is_the_other_sides(world: World) -> None:
    for _ in range(6):
        run(world)
    world.expired.clear()
    assert pgbackrest_run.retain(world, replace(BUCKET, immutable=True)) == 6
    assert world.expired == []


def test_damaged_pages_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = World.backup

    def damaged(self: World, kind: Kind, destination: Destination, **options: Any) -> Info:
        made(self, kind, destination, **options)
        there = self.there[destination.name]
        there[-1] = replace(there[-1], damaged=True)
        return self.info(destination)

    monkeypatch.setattr(World, "backup", damaged)
    outcome = run(world)["local"]
    assert outcome.error is None
    assert "wrong checksum" in outcome.warnings[0]


def test_second_one_at_once_is_told_who_is_at_it(world: World) -> None:
    with (
        lock.held(pgbackrest_run.LOCK, "bedstone wal full"),
        pytest.raises(lock.LockedError, match="bedstone wal full"),
    ):
        run(world, "incr")
    assert world.there["local"] == []


def test_backup_that_takes_the_last_of_the_disk_is_ended_and_leaves_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "var/lib/pgbackrest/backup/main"
    whole = home / "20261101-010000F"
    whole.mkdir(parents=True)
    (whole / "backup.manifest").touch()
    (home / "latest").symlink_to(whole.name)
    world.unfinished = home / "20261108-010000F"
    full = iter([10**12])
    # There is space when it begins, and none afterwards.
    monkeypatch.setattr(disk, "free_bytes", lambda _: next(full, -1))

    outcomes = run(world)

    assert isinstance(outcomes["local"].error, disk.DiskFullError)
    assert sorted(path.name for path in home.iterdir()) == ["20261101-010000F", "latest"]
    assert outcomes["bucket"].backup is not None


def test_chain_that_failed_its_last_verification_is_proved_no_longer(world: World) -> None:
    for _ in range(6):
        run(world)
    labels = [made.label for made in world.there["bucket"]]
    # The second was verified and so was the fourth, which has since been found damaged.
    with database.opened() as connection:
        for label, state in ((1, "succeeded"), (3, "succeeded"), (3, "failed"), (3, "prevented")):
            connection.execute(
                "INSERT INTO verifications (app, kind, backup, destination, state, started_at,"
                " finished_at, seconds) VALUES ('', 'wal', ?, 'bucket', ?, 'x', 'x', 1)",
                (labels[label], state),
            )
    world.expired.clear()

    run(world)

    # Of seven, the first alone goes.
    assert ("bucket", 6) in world.expired


def test_chain_that_was_proved_here_before_another_host_does_it_does_not_stay_for_ever(
    world: World, tmp_path: Path
) -> None:
    for _ in range(6):
        run(world)
    for place in ("local", "bucket"):
        verifications.record(
            Verification("", "wal", world.there[place][1].label, place, "succeeded", "x", "x", 1.0)
        )
    settings = {
        **dict.fromkeys(("schema", "keep_days", "keep_at_least", "reserve_mb", "jobs"), 1),
        "directory": "/b",
        "socket": "/s",
        "port": 1,
        "databases": [],
        "media": [],
        "verify": {"host": "proofs1", "origin": "db1"},
    }
    (tmp_path / "etc/bedstone").mkdir(parents=True)
    (tmp_path / "etc/bedstone/backup.json").write_text(json.dumps(settings))
    world.expired.clear()

    run(world)

    assert ("bucket", 6) in world.expired
    assert ("local", 2) in world.expired
