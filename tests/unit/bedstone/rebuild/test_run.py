"""What a rebuild does in which order, what it refuses first, and how it goes on after a kill."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bedstone.cli import main
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, releases
from bedstone.offsite import copies
from bedstone.postgres import content
from bedstone.rebuild import cluster, dumps, files, hold, run, serve
from bedstone.rebuild import journal as rebuild_journal
from bedstone.rebuild.cluster import Recovered
from bedstone.system.systemd import Systemd

BACKUP = {
    "schema": 1,
    "directory": "/var/backups/bedstone",
    "keep_days": 30,
    "keep_at_least": 3,
    "reserve_mb": 1,
    "jobs": 1,
    "socket": "/run/postgresql",
    "port": 5432,
    "databases": [{"app": "shop", "name": "shop", "owner": "shop_owner"}],
    "media": [],
}
DESTINATIONS: dict[str, Any] = {
    "schema": 1,
    "point_in_time": {
        "stanza": "main",
        "keep_days": 7,
        "keep_full": 2,
        "archive_timeout_seconds": 60,
    },
    "destinations": [
        {"name": "local", "type": "local", "restic": "/var/backups/r", "pgbackrest": 1},
        {
            "name": "offsite",
            "type": "sftp",
            "host": "backup.example.com",
            "port": 22,
            "user": "bedstone",
            "path": "/srv/bedstone",
            "pgbackrest": 2,
        },
    ],
}


class World:
    """Records the calls, and fails where the test says so."""

    def __init__(self, root: Path) -> None:
        self.done: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.backups: tuple[str, ...] = ("20261120-010000F",)
        self.data = root / "var/lib/postgresql/17/main"

    def step(self, name: str, result: Any = None) -> Any:
        def do(*_: Any, **__: Any) -> Any:
            self.done.append(name)
            if name in self.fails:
                raise self.fails.pop(name)
            return result

        return do


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    made = World(tmp_path)
    made.data.mkdir(parents=True)
    home = tmp_path / "etc/bedstone"
    home.mkdir(parents=True)
    (home / "backup.json").write_text(json.dumps(BACKUP))
    (home / "destinations.json").write_text(json.dumps(DESTINATIONS))

    def info(_destination: object) -> Any:
        newest = made.backups[-1] if made.backups else None
        return SimpleNamespace(backups=made.backups, newest=newest, version="17", newest_wal=None)

    stanza = SimpleNamespace(info=info, create=made.step("create"))
    monkeypatch.setattr(run, "Stanza", lambda *_, **__: stanza)
    ended = Recovered("20261120-010000F", "0/5", datetime(2026, 11, 20, 17, tzinfo=UTC), ("shop",))
    for name, result in {
        "require_empty": None,
        "require_fit": None,
        "data_directory": made.data,
        "recover": ended,
        "start": None,
    }.items():
        monkeypatch.setattr(cluster, name, made.step(name, result))

    def put_in_place(journal: rebuild_journal.Journal) -> rebuild_journal.Journal:
        made.step("put_in_place")()
        return journal.at(rebuild_journal.CLUSTER)

    monkeypatch.setattr(cluster, "put_in_place", put_in_place)
    brought = {"releases": {"shop": "r1"}, "warnings": []}
    monkeypatch.setattr(
        files, "configuration", lambda *_: made.step("configuration", dict(brought))()
    )
    monkeypatch.setattr(files, "uploads", made.step("uploads", ({}, [])))
    monkeypatch.setattr(dumps, "newest", made.step("newest", {}))
    return made


def test_all_of_it_in_its_order(world: World) -> None:
    facts = run.rebuild("offsite", None)
    assert world.done == [
        *("require_empty", "require_fit", "data_directory", "recover", "put_in_place", "start"),
        *("create", "configuration", "uploads"),
    ]
    assert (facts["phase"], facts["releases"]) == (rebuild_journal.FILES, {"shop": "r1"})


def test_a_server_with_data_is_refused_before_anything_else(world: World) -> None:
    world.fails["require_empty"] = RefusedError("there are rows")
    with pytest.raises(RefusedError):
        run.rebuild("offsite", None)
    assert world.done == ["require_empty"]
    assert rebuild_journal.load() is None


def test_a_server_on_which_apps_serve_is_refused(world: World) -> None:
    with database.opened() as connection:
        new = releases.NewRelease("v1", "f")
        release, operation = releases.begin(connection, "shop", new)
        releases.commit(connection, "shop", release, "blue", operation)
    with pytest.raises(RefusedError) as caught:
        run.rebuild("offsite", None)
    assert "Releases of shop serve" in caught.value.message
    assert "recover" not in world.done


def test_an_unknown_destination_is_refused_with_those_there_are(world: World) -> None:
    with pytest.raises(RefusedError) as caught:
        run.rebuild("ofsite", None)
    assert "'offsite'" in (caught.value.hint or "")
    assert world.done == []


def test_what_is_refused_after_the_recovery_leaves_nothing(world: World) -> None:
    world.fails["recover"] = RefusedError("no backup leads to this moment")
    with pytest.raises(RefusedError):
        run.rebuild("offsite", None)
    assert rebuild_journal.load() is None
    assert "put_in_place" not in world.done


@pytest.mark.parametrize("killed", ["recover", "put_in_place"])
def test_killed_before_the_cluster_is_in_place_it_begins_anew(world: World, killed: str) -> None:
    world.fails[killed] = BedstoneError("killed")
    with pytest.raises(BedstoneError):
        run.rebuild("offsite", None)
    world.done.clear()
    run.rebuild("offsite", None)
    assert world.done.count("recover") == 1


@pytest.mark.parametrize("killed", ["configuration", "uploads"])
def test_killed_later_the_cluster_is_left_alone(world: World, killed: str) -> None:
    world.fails[killed] = BedstoneError("killed")
    with pytest.raises(BedstoneError):
        run.rebuild("offsite", None)
    world.done.clear()
    facts = run.rebuild("offsite", None)
    assert world.done == ["create", "configuration", "uploads"]
    assert facts["backup"] == "20261120-010000F"


def test_once_all_is_there_nothing_is_done_again(world: World) -> None:
    run.rebuild("offsite", None)
    world.done.clear()
    run.rebuild("offsite", None)
    assert world.done == []


def test_another_destination_is_refused_once_a_cluster_is_in_place(world: World) -> None:
    run.rebuild("offsite", None)
    with pytest.raises(RefusedError) as caught:
        run.rebuild("local", None)
    assert "from offsite is under way" in caught.value.message
    assert world.done.count("recover") == 1


@pytest.fixture
def vault(world: World) -> World:
    """The same with a bucket, of which what was there before can be read."""
    bucket = {
        "name": "vault", "type": "s3", "endpoint": "s3.example.com", "bucket": "backups",
        "region": "eu-central-1", "path": "/web1", "path_style": True, "pgbackrest": 2,
    }  # fmt: skip
    document = {**DESTINATIONS, "destinations": [DESTINATIONS["destinations"][0], bucket]}
    (paths.host("/etc/bedstone") / "destinations.json").write_text(json.dumps(document))
    return world


BEFORE_ATTACK = datetime(2026, 11, 20, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "second", "hint"),
    [
        (BEFORE_ATTACK, None, "--as-of 2026-11-20T03:00:00+00:00"),
        (BEFORE_ATTACK, datetime(2026, 11, 21, tzinfo=UTC), "--as-of 2026-11-20T03:00:00+00:00"),
        (None, BEFORE_ATTACK, "without --as-of"),
    ],
)
def test_files_of_another_moment_than_the_databases_are_refused(
    vault: World, first: datetime | None, second: datetime | None, hint: str
) -> None:
    vault.fails["configuration"] = BedstoneError("killed")
    with pytest.raises(BedstoneError, match="killed"):
        run.rebuild("vault", None, as_of=first)
    vault.done.clear()
    with pytest.raises(RefusedError) as caught:
        run.rebuild("vault", None, as_of=second)
    assert hint in (caught.value.hint or "")
    assert vault.done == []
    run.rebuild("vault", None, as_of=first)
    assert vault.done == ["create", "configuration", "uploads"]


def test_dumps_of_another_moment_than_the_first_ones_are_refused(
    vault: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Dumps(vault, monkeypatch)
    vault.fails["wiki"] = BedstoneError("killed")
    with pytest.raises(BedstoneError, match="killed"):
        run.rebuild("vault", None, as_of=BEFORE_ATTACK)
    vault.done.clear()
    with pytest.raises(RefusedError):
        run.rebuild("vault", None)
    assert vault.done == []


def test_archiving_that_can_not_be_prepared_holds_no_data_back(world: World) -> None:
    world.fails["create"] = BedstoneError("the bucket is away")
    facts = run.rebuild("offsite", None)
    assert [line for line in facts["warnings"] if "the bucket is away" in line]


def test_without_any_backup_it_is_refused_before_anything_is_touched(world: World) -> None:
    world.backups = ()
    with pytest.raises(RefusedError) as caught:
        run.rebuild("offsite", None)
    assert "There is no backup at offsite" in caught.value.message
    assert rebuild_journal.load() is None


def test_without_a_log_no_moment_can_be_gone_back_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backups = ()
    monkeypatch.setattr(dumps, "newest", lambda *_: {"shop": object()})
    with pytest.raises(RefusedError) as caught:
        run.rebuild("offsite", datetime(2026, 11, 20, tzinfo=UTC))
    assert "--time" in (caught.value.hint or "")


class Dumps:
    """Restores by writing down which."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        world.backups = ()
        there = {name: SimpleNamespace(name=f"backup_{name}") for name in ("shop", "wiki")}
        monkeypatch.setattr(dumps, "newest", lambda *_: there)
        monkeypatch.setattr(copies, "fetch", lambda *_, **__: Path("fetched"))
        monkeypatch.setattr(dumps, "_put_in_place", self.put_in_place)

    def put_in_place(self, _settings: object, app: str, _directory: Path) -> None:
        self.world.step(app)()


def test_without_a_log_the_dumps_come_back_with_their_uploads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Dumps(world, monkeypatch)
    facts = run.rebuild("offsite", None)
    assert facts["dumps"] == {"shop": "backup_shop", "wiki": "backup_wiki"}
    assert "recover" not in world.done
    assert "uploads" not in world.done


def test_killed_among_the_dumps_it_goes_on_with_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Dumps(world, monkeypatch)
    world.fails["wiki"] = BedstoneError("killed")
    with pytest.raises(BedstoneError):
        run.rebuild("offsite", None)
    world.done.clear()
    # The first app's rows are there by now, and no reason to refuse.
    world.fails["require_empty"] = RefusedError("there are rows")
    facts = run.rebuild("offsite", None)
    assert world.done == ["wiki", "create", "configuration"]
    assert facts["dumps"] == {"shop": "backup_shop", "wiki": "backup_wiki"}


def test_a_kill_between_the_renames_is_settled(world: World) -> None:
    journal = rebuild_journal.begin("offsite", None, world.data)
    journal.at(rebuild_journal.SWAPPING)
    journal.side.mkdir()
    run.settle()
    found = rebuild_journal.load()
    assert found is not None
    assert found.phase == rebuild_journal.CLUSTER
    assert world.done == ["start"]
    assert not journal.side.exists()


def test_settling_without_a_rebuild_does_nothing(world: World) -> None:
    run.settle()
    assert world.done == []
    assert not (paths.state() / "rebuild.json").exists()


# --- before: a server that may have nothing, not even the program ------------------------------


@pytest.fixture
def held(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The drop-in that holds the nightly backup back; nothing is in the databases."""
    monkeypatch.setattr(content, "tables_with_content", world.step("tables_with_content", []))
    monkeypatch.setattr(Systemd, "read_units", world.step("daemon-reload"))
    return paths.host("/run/systemd/system/bedstone-backup.service.d/rebuild.conf")


def test_a_new_server_is_prepared_and_its_backups_run_again_afterwards(
    world: World, held: Path
) -> None:
    (paths.host("/etc/bedstone") / "backup.json").unlink()  # a bare one has no configuration
    run.prepare()
    assert world.done == ["tables_with_content", "daemon-reload"]
    assert "ConditionPathExists=!/run" in held.read_text()
    directories = sorted(path.name for path in held.parents[1].iterdir())
    assert directories == [
        "bedstone-backup.service.d",
        "bedstone-copy.service.d",
        "bedstone-uploads.service.d",
        "bedstone-wal-full.service.d",
        "bedstone-wal-incremental.service.d",
    ]
    run.prepare()  # of a call that was killed they are there already
    hold.resume()
    assert list(held.parents[1].iterdir()) == []
    assert world.done[-1] == "daemon-reload"


def test_a_server_with_data_is_not_prepared(
    world: World, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "tables_with_content", lambda _server: ["shop: entry"])
    with pytest.raises(RefusedError, match=r"has data in its databases \(shop: entry\)"):
        run.prepare()
    assert not held.exists()
    assert world.done == []


@pytest.mark.parametrize("option", ["--as-of", "--time"])
def test_a_moment_that_can_not_be_read_prepares_nothing(
    world: World, held: Path, option: str
) -> None:
    assert main.main(["rebuild", "--prepare", "--time=", "--as-of="]) == 0
    held.unlink()
    world.done.clear()
    assert main.main(["rebuild", "--prepare", f"{option}=yesterday"]) == 3
    assert not held.exists()
    assert world.done == []


def test_a_killed_rebuild_is_settled_and_not_taken_for_data(world: World, held: Path) -> None:
    journal = rebuild_journal.begin("offsite", None, world.data)
    journal.at(rebuild_journal.SWAPPING)
    journal.side.mkdir()
    run.prepare()
    assert world.done == ["daemon-reload", "start"]
    assert held.exists()


def test_apps_without_a_restored_release_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "serve", lambda app, _say: world.done.append(app))
    assert run.serve_kept(["shop"]) == {"served": [], "without": ["shop"]}
    journal = rebuild_journal.begin("offsite", None, world.data)
    journal.at(rebuild_journal.FILES, releases={"shop": "r1"})
    assert run.serve_kept(["shop", "wiki"]) == {"served": ["shop"], "without": ["wiki"]}
    assert world.done == ["shop"]
