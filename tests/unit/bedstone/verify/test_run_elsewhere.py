"""Each destination is verified by a fetch from it, and the WAL by the cluster it leads to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import create, manifest
from bedstone.backup.verify_settings import VerifySettings
from bedstone.cli import main
from bedstone.core import paths, scratch
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, verifications
from bedstone.offsite import copies, verification_reports
from bedstone.offsite.copies import Remote
from bedstone.pitr import cluster as past
from bedstone.pitr.cluster import GapError
from bedstone.postgres import dump, properties, soundness, temporary
from bedstone.postgres.server import Server
from bedstone.storage.reachability import UNREACHABLE
from bedstone.storage.restic_errors import DAMAGED, ResticError
from bedstone.system import priority
from bedstone.verify import run
from bedstone.wal.errors import UnreachableError
from bedstone.wal.info import Backup, Info
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings
    from bedstone.storage.destinations import Destination
    from tests.unit.fixtures.backup import FakePostgres

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
LABEL = "20261120-010000F"


class World:
    """What lies at the destination, and what a cluster holds that comes back from there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.there = [self.remote(path.name)]
        self.fetch_error: BedstoneError | None = None
        self.list_error: BedstoneError | None = None
        self.past_error: BedstoneError | None = None
        self.rows: dict[str, int] | None = {"public.payment": 3}
        self.asked: list[str] = []

    def remote(self, name: str, started: datetime | None = None, **changes: Any) -> Remote:
        return Remote(name, "payments", started or datetime.now(UTC), 100, ("dump",), **changes)

    def listed(self, _: Destination, __: str) -> list[Remote]:
        if self.list_error:
            raise self.list_error
        return self.there

    def fetch(self, destination: Destination, app: str, name: str, into: Path, **_: object) -> Path:
        assert (destination.name, app) == ("offsite", "payments")
        if self.fetch_error:
            raise self.fetch_error
        into.mkdir(mode=0o700)
        shutil.copytree(self.path, into / name)
        self.asked.append(name)
        return into / name

    @contextmanager
    def cluster(
        self, _: Stanza, destination: Destination, place: Path, **__: object
    ) -> Iterator[past.Past]:
        self.asked.append(f"wal at {destination.name}")
        if self.past_error:
            raise self.past_error
        yield past.Past(Server(str(place), 5432), datetime.now(UTC), "0/5000148")


@pytest.fixture
def world(
    configure: Callable[..., Settings],
    postgres: FakePostgres,
    destinations: Callable[..., None],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    settings = configure(
        verify={"directory": "/cache/verify", "limit_minutes": 60, "checks": {}}, media=[]
    )
    program = root / "usr/lib/postgresql/17/bin/initdb"
    program.parent.mkdir(parents=True)
    program.touch()
    assert postgres.names() == ["payments"]
    destinations()
    world = World(create.create(settings, "payments").backup.path)

    @contextmanager
    def cluster(place: Path, *_: object, **__: object) -> Iterator[Server]:
        yield Server(str(place), 5432)

    monkeypatch.setattr(priority, "step_back_fully", lambda _: None)
    monkeypatch.setattr(temporary, "cluster", cluster)
    monkeypatch.setattr(temporary, "restore", lambda *_, **__: None)
    monkeypatch.setattr(dump, "count", lambda *_: world.rows)
    monkeypatch.setattr(soundness, "amcheck", lambda *_: "sound (amcheck)")
    monkeypatch.setattr(
        properties,
        "read",
        lambda *_: None if world.rows is None else {"owner": "payments_owner"},
    )
    monkeypatch.setattr(copies, "listed", world.listed)
    monkeypatch.setattr(copies, "fetch", world.fetch)
    monkeypatch.setattr(past, "cluster", world.cluster)
    found = Backup(LABEL, "full", NOW, NOW, 1, 1, ("1", "1"), None, False, 1)
    monkeypatch.setattr(Stanza, "info", lambda *_: Info(exists=True, backups=(found,)))
    return world


def recorded() -> dict[str, str]:
    """Return the state of each last verification by what was verified and where."""
    with database.opened() as connection:
        attempts = [
            *verifications.of_app(connection, "payments"),
            *verifications.of_app(connection, ""),
        ]
    return {f"{a.kind} at {a.destination}": a.state for a in reversed(attempts)}


def errors() -> str:
    with database.opened() as connection:
        rows = connection.execute("SELECT error FROM verifications WHERE error IS NOT NULL")
        return "\n".join(str(row[0]) for row in rows)


def test_every_kind_is_proved_from_every_destination(world: World, root: Path) -> None:
    assert main.main(["verify"]) == 0
    assert recorded() == {
        "dump at local": "succeeded",
        "dump at offsite": "succeeded",
        "wal at local": "succeeded",
        "wal at offsite": "succeeded",
    }
    assert sorted(world.asked) == sorted([world.path.name, "wal at local", "wal at offsite"])
    assert list((root / "cache/verify").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--destination", "offsite"], {"dump at offsite", "wal at offsite"}),
        (["--kind", "wal"], {"wal at local", "wal at offsite"}),
        (["payments"], {"dump at local", "dump at offsite"}),
        (["payments", "--backup", "NAME"], {"dump at local"}),
        (["payments", "--backup", "NAME", "--destination", "offsite"], {"dump at offsite"}),
        (["--kind", "dump", "--destination", "local"], {"dump at local"}),
    ],
)
def test_what_is_asked_for_is_proved_and_no_more(
    world: World, arguments: list[str], expected: set[str]
) -> None:
    given = [world.path.name if part == "NAME" else part for part in arguments]
    assert main.main(["verify", *given]) == 0
    assert set(recorded()) == expected


def _fails(name: str, error: BedstoneError) -> Callable[[World], None]:
    return lambda world: setattr(world, name, error)


ELSEWHERE: dict[str, tuple[Callable[[World], None], str, str]] = {
    "nothing there": (
        lambda world: world.there.clear(),
        "prevented",
        "There is no full backup of payments at offsite",
    ),
    "only a restore point": (
        lambda world: setattr(world, "there", [world.remote("backup_x", point=True)]),
        "prevented",
        "There is no full backup",
    ),
    "only one from the future": (
        lambda world: setattr(
            world, "there", [world.remote("backup_x", datetime.now(UTC) + timedelta(days=9))]
        ),
        "prevented",
        "backup_x at offsite is from the future",
    ),
    "unreachable": (
        _fails("list_error", ResticError("offsite doesn't answer.", UNREACHABLE)),
        "prevented",
        "offsite doesn't answer",
    ),
    "damaged there": (
        _fails("fetch_error", ResticError("A pack is damaged.", DAMAGED)),
        "failed",
        "A pack is damaged",
    ),
    "another byte": (
        _fails("fetch_error", BedstoneError("brought back from offsite, isn't what was sent.")),
        "failed",
        "isn't what was sent",
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_trouble_of_a_destination_is_told_of_it_alone(
    world: World, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, state, said = ELSEWHERE[case]
    harm(world)
    assert main.main(["verify", "payments"]) == (1 if state == "failed" else 3)
    assert recorded() == {"dump at local": "succeeded", "dump at offsite": state}
    assert said in errors()
    assert "at offsite" in capsys.readouterr().err


WAL: dict[str, tuple[Callable[[World], None], str, str]] = {
    "a hole": (_fails("past_error", GapError("It leads to 0/1 only.")), "failed", "leads to 0/1"),
    "unreachable": (
        _fails("past_error", UnreachableError("It can't be reached.")),
        "prevented",
        "can't be reached",
    ),
    "no cluster here to start": (
        _fails("past_error", temporary.ThrowawayError("This server has no PostgreSQL 99.")),
        "prevented",
        "PostgreSQL 99",
    ),
    "a table less": (
        lambda world: setattr(world, "rows", {"public.other": 1}),
        "failed",
        "Tables of payments that the last backup has aren't in it",
    ),
    "no rows": (
        lambda world: setattr(world, "rows", {"public.payment": 0}),
        "failed",
        "All tables of payments are empty",
    ),
    "no database": (
        lambda world: setattr(world, "rows", None),
        "failed",
        "The database payments of payments isn't in it",
    ),
}


@pytest.mark.parametrize("case", WAL)
def test_wal_that_leads_nowhere_is_told(
    world: World, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, state, said = WAL[case]
    harm(world)
    code = main.main(["verify", "--kind", "wal", "--destination", "offsite"])
    assert code == (1 if state == "failed" else 3)
    assert recorded() == {"wal at offsite": state}
    assert said in errors()
    told = capsys.readouterr().err
    assert "the WAL at offsite" in told
    if state == "failed" and "Tables" not in said:
        assert "bedstone wal full --destination offsite" in told


def test_what_was_verified_the_longest_ago_comes_first(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["verify", "--destination", "local"]) == 0
    capsys.readouterr()
    assert main.main(["verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["verifications"]
    assert [entry["destination"] for entry in found] == ["offsite", "offsite", "local", "local"]
    assert {entry["backup"] for entry in found} == {world.path.name, LABEL}


def test_server_without_wal_proves_dumps_alone(
    world: World, destinations: Callable[..., None]
) -> None:
    destinations(wal=False)
    assert main.main(["verify"]) == 0
    assert set(recorded()) == {"dump at local", "dump at offsite"}
    assert world.asked == [world.path.name]


@pytest.fixture
def proofs(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, on a host that has the settings of `db1` and nothing else of it."""
    home = root / "etc/bedstone/verify/db1"
    home.mkdir(parents=True)
    for name in ("backup.json", "destinations.json"):
        shutil.move(root / "etc/bedstone" / name, home / name)
    away = root / "offsite"
    away.mkdir()
    world.path = Path(shutil.move(world.path, away))
    monkeypatch.setattr(copies, "manifest_of", lambda *_: manifest.read(world.path))
    monkeypatch.setattr(verification_reports, "leave", lambda *_: [])
    return world


def test_other_host_proves_what_is_at_the_destinations_and_no_more(proofs: World) -> None:
    assert main.main(["verify", "--of", "db1"]) == 0
    assert recorded() == {}
    with paths.of_origin("db1"):
        assert recorded() == {"dump at offsite": "succeeded", "wal at offsite": "succeeded"}
    assert sorted(proofs.asked) == sorted([proofs.path.name, "wal at offsite"])


@pytest.mark.parametrize("case", WAL)
def test_other_host_finds_the_same_in_the_wal(proofs: World, case: str) -> None:
    harm, state, said = WAL[case]
    harm(proofs)
    code = main.main(["verify", "--of", "db1", "--kind", "wal"])
    assert code == (1 if state == "failed" else 3)
    with paths.of_origin("db1"):
        assert recorded() == {"wal at offsite": state}
        assert said in errors()


def test_hint_names_the_server_on_which_its_command_helps(
    proofs: World, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, _, _ = WAL["no rows"]
    harm(proofs)
    main.main(["verify", "--of", "db1", "--kind", "wal"])
    assert "On db1: Don't count on the WAL at offsite." in capsys.readouterr().err


def test_proof_of_which_nobody_can_be_told_is_no_success(
    proofs: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert proofs.there
    away = ResticError("offsite doesn't answer.", UNREACHABLE)
    monkeypatch.setattr(verification_reports, "leave", lambda *_: [away])
    assert main.main(["verify", "--of", "db1", "--kind", "dump"]) == 3
    assert "db1 isn't told: offsite doesn't answer." in capsys.readouterr().err


def test_killed_run_is_remembered_for_the_server_whose_backups_it_was_at(
    proofs: World, root: Path
) -> None:
    assert proofs.there
    home = root / "cache/verify"
    with paths.of_origin("db1"):
        place = scratch.place(
            home, app="payments", part="dump", destination="offsite", origin="db1"
        )
        left = place.__enter__()
    marker = left.with_suffix(".json").read_text()
    place.__exit__(None, None, None)
    left.mkdir()
    left.with_suffix(".json").write_text(marker)
    run.clear(VerifySettings(home, 60.0, {}))
    assert recorded() == {}
    with paths.of_origin("db1"):
        assert recorded() == {"dump at offsite": "prevented"}
