"""Two clusters in memory, and a process that can be killed at each thing that it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import create as backup
from bedstone.backup.settings import App, Settings
from bedstone.core.errors import BedstoneError
from bedstone.postgres.debian_cluster import AUTOMATIC, MANUAL, Cluster
from bedstone.postgres.server import Server
from bedstone.upgrade import compare, downtime, journal, wal
from bedstone.upgrade import major as carry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BEFORE: dict[str, Any] = {"roles": {}, "databases": {}, "rows": {"payments": {"public.payment": 3}}}


class KilledError(BaseException):
    """The process is gone: nothing that it would do afterwards happens."""


@dataclass
class FakeCluster:
    """A cluster: ``runs`` is None, "closed" (superuser alone) or "open"."""

    start: str
    rows: int
    runs: str | None = None


@dataclass
class World:
    """The server."""

    clusters: dict[int, FakeCluster] = field(
        default_factory=lambda: {15: FakeCluster(AUTOMATIC, 3, "open")}
    )
    apps_run: bool = True
    page: bool = False
    healthy_on: set[int] = field(default_factory=lambda: {15, 17})
    copied_rows: int = 3
    at: int | None = None
    kind: type[BaseException] = KilledError
    calls: list[str] = field(default_factory=list)
    dead: bool = False

    def does(self, what: str) -> None:
        """Record a call, or fail at it."""
        if self.dead:
            raise KilledError
        self.calls.append(what)
        if len(self.calls) == self.at:
            if self.kind is KilledError:
                self.dead = True
                raise KilledError
            raise BedstoneError(f"{what} failed.")
        opened = [major for major, each in self.clusters.items() if each.runs == "open"]
        assert len(opened) <= 1, "two clusters take writes"

    def revive(self, *, power_cut: bool) -> None:
        """Go on after a kill, or after a boot."""
        self.dead, self.at = False, None
        if power_cut:
            for each in self.clusters.values():
                each.runs = "open" if each.start == AUTOMATIC else None
            self.apps_run = True

    def serving(self) -> int:
        """Return the version that serves, having looked that all is as it should be."""
        [(major, cluster)] = [(m, c) for m, c in self.clusters.items() if c.runs]
        assert cluster.runs == "open"
        assert cluster.start == AUTOMATIC
        assert all(c.start == MANUAL for m, c in self.clusters.items() if m != major)
        assert self.apps_run
        assert not self.page
        assert journal.load() is None
        return major


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return Settings(
        directory=tmp_path / "backups",
        keep_days=30,
        keep_weeks=8,
        keep_months=6,
        keep_at_least=3,
        reserve_bytes=0,
        jobs=1,
        socket="/nowhere",
        port=5432,
        apps=(App("payments", "payments", "payments_owner", None),),
    )


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> World:
    del settings
    found = World()
    _fake_clusters(found, monkeypatch)
    _fake_programs(found, monkeypatch)
    _fake_apps(found, monkeypatch)
    _fake_journal(found, monkeypatch)
    return found


def _fake_clusters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Cluster) -> None:
        world.does(f"start {self.major}")
        world.clusters[self.major].runs = "open"

    def stop(self: Cluster) -> None:
        world.does(f"stop {self.major}")
        if self.major in world.clusters:
            world.clusters[self.major].runs = None

    def start_closed(self: Cluster, *_: object, **__: object) -> None:
        world.does(f"start {self.major} closed")
        world.clusters[self.major].runs = "closed"

    def set_start(self: Cluster, mode: str) -> None:
        world.does(f"set {self.major} {mode}")
        world.clusters[self.major].start = mode

    def drop(self: Cluster) -> None:
        world.does(f"drop {self.major}")
        world.clusters.pop(self.major, None)

    def exists(self: Cluster) -> bool:
        return self.major in world.clusters

    for name, fake in {
        "start": start, "stop": stop, "start_closed": start_closed, "set_start": set_start,
        "drop": drop,
    }.items():  # fmt: skip
        monkeypatch.setattr(Cluster, name, fake)
    monkeypatch.setattr(Cluster, "exists", property(exists))


def _fake_programs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: Sequence[str], **_: object) -> None:
        world.does(argv[0])
        if argv[0] == "pg_upgradecluster":
            # It copies start.conf, too.
            world.clusters[17] = FakeCluster(world.clusters[15].start, world.copied_rows)
            world.does("pg_upgradecluster, half done")
            world.clusters[15].start = MANUAL

    def of(*_: object) -> dict[str, Any]:
        world.does("count")
        [cluster] = [each for each in world.clusters.values() if each.runs == "closed"]
        return {**BEFORE, "rows": {"payments": {"public.payment": cluster.rows}}}

    def major(_: Server) -> int:
        return next(major for major, each in world.clusters.items() if each.runs)

    monkeypatch.setattr(carry, "run", run)
    monkeypatch.setattr(carry, "_carry_configuration", lambda *_: world.does("configuration"))
    monkeypatch.setattr(carry, "_end_programs", lambda: None)
    monkeypatch.setattr(compare, "of", of)
    monkeypatch.setattr(Server, "major", major)
    monkeypatch.setattr(Server, "version", lambda self: f"{self.major()}.1")


def _fake_apps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(found: journal.Journal) -> journal.Journal:
        found = found.saved(pages=("payments",), units=("web",))
        world.does("page on")
        world.page = True
        world.does("stop apps")
        world.apps_run = False
        return found

    def start(found: journal.Journal) -> None:
        world.does("start apps")
        world.apps_run = world.apps_run or bool(found.units)

    def open_again(found: journal.Journal) -> None:
        world.does("page off")
        world.page = world.page and not found.pages

    def require_health(*_: object) -> None:
        world.does("health")
        if Server("", 0).major() not in world.healthy_on:
            raise BedstoneError("payments isn't healthy: it says 500.")

    def create(*_: object, **__: object) -> SimpleNamespace:
        world.does("backup")
        database = SimpleNamespace(rows={"public.payment": 3})
        return SimpleNamespace(
            backup=SimpleNamespace(name="backup_1", manifest=SimpleNamespace(database=database))
        )

    monkeypatch.setattr(downtime, "close", close)
    monkeypatch.setattr(downtime, "start", start)
    monkeypatch.setattr(downtime, "open_again", open_again)
    monkeypatch.setattr(downtime, "require_health", require_health)
    monkeypatch.setattr(downtime, "require_no_job", lambda *_: None)
    monkeypatch.setattr(downtime, "healthy", lambda *_: ["payments"])
    monkeypatch.setattr(downtime, "front_doors", lambda *_: [])
    monkeypatch.setattr(backup, "create", create)
    monkeypatch.setattr(wal, "follow", lambda *_: None)


def _fake_journal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be killed before and after each line that it writes down."""

    def around(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **changes: Any) -> Any:
            world.does(f"before {name}")
            result = real(*arguments, **changes)
            world.does(f"after {name}")
            return result

        return call

    monkeypatch.setattr(journal.Journal, "saved", around(journal.Journal.saved, "saved"))
    for name in ("clear", "record", "forget"):
        monkeypatch.setattr(journal, name, around(getattr(journal, name), name))
