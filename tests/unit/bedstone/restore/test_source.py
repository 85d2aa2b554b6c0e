"""A restore takes a name, a moment or a release; from here, from a destination, or from the WAL."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import catalog, create
from bedstone.cli import main
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database as ledger
from bedstone.ledger import releases
from bedstone.ledger.kinds import UPLOADS
from bedstone.offsite import copies
from bedstone.pitr import cluster as past
from bedstone.pitr.window import UnreachableTimeError
from bedstone.postgres import dump
from bedstone.postgres.server import Server
from bedstone.restore import source
from bedstone.storage import destinations as destinations_known
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone.backup.settings import Settings
    from bedstone.storage.destinations import Destination
    from tests.unit.fixtures.backup import FakePostgres
    from tests.unit.fixtures.repositories import Elsewhere

MOMENT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
ENDED = MOMENT - timedelta(minutes=3)


def run(*arguments: str) -> int:
    return main.main(["restore", "payments", *arguments])


class FakePast:
    """What the WAL leads to: the database as it was."""

    def __init__(self, postgres: FakePostgres) -> None:
        self.postgres = postgres
        self.asked: list[tuple[str, datetime | None]] = []
        self.arrived: list[str] = []
        self.error: BedstoneError | None = None
        self.places: list[Path] = []

    @contextmanager
    def cluster(
        self,
        _: Stanza,
        destination: Destination,
        place: Path,
        target: datetime | None = None,
        **__: object,
    ) -> Iterator[past.Past]:
        self.asked.append((destination.name, target))
        self.places.append(place)
        if self.error:
            raise self.error
        yield past.Past(Server(str(place / "socket"), 5432), ENDED, "0/5000148")


@pytest.fixture
def wal(
    settings: Settings,
    postgres: FakePostgres,
    destinations: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> FakePast:
    """A server that keeps WAL here and elsewhere; its database was smaller once."""
    assert settings.apps
    destinations()
    fake = FakePast(postgres)
    real = dump.dump

    def then(server: Server, database: str, directory: Path, **options: Any) -> dump.Database:
        if server.socket == "/nowhere":
            return real(server, database, directory, **options)
        postgres.put("then", {"public.payment": 2})
        made = real(server, "then", directory, **options)
        postgres.drop("then")
        return replace(made, name=database)

    def arrived(_: Stanza, destination: Destination, segment: str, **__: object) -> None:
        fake.arrived.append(f"{segment} at {destination.name}")

    monkeypatch.setattr(past, "cluster", fake.cluster)
    monkeypatch.setattr(dump, "dump", then)
    monkeypatch.setattr(Server, "value", lambda *_: "1000")
    monkeypatch.setattr(Stanza, "switch", lambda _: "000000010000000000000005")
    monkeypatch.setattr(Stanza, "arrived", arrived)
    return fake


def test_moment_is_restored_like_any_backup(
    wal: FakePast, postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres.put("payments", {"public.payment": 9})
    assert run("--time", "2026-11-20 10:00:00+00:00", "--yes", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert wal.asked == [("local", MOMENT)]
    # It first waits for the WAL of the last commit: without a later one, no moment is certain.
    assert wal.arrived == ["000000010000000000000005 at local"]
    assert postgres.rows("payments") == {"public.payment": 2}
    assert postgres.rows(result["old_database"]) == {"public.payment": 9}
    assert result["ended_at"] == ENDED.isoformat()
    assert result["lsn"] == "0/5000148"
    assert result["media"] is None


def test_person_is_told_where_it_really_ended(
    wal: FakePast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--time", "2026-11-20T10:00:00Z", "--yes", "--destination", "offsite") == 0
    said = capsys.readouterr().out
    assert wal.asked == [("offsite", MOMENT)]
    assert "as it was at 2026-11-20 10:00:00 UTC, from offsite" in said
    assert "committed at 2026-11-20 09:57:00 UTC (WAL 0/5000148)" in said
    assert "Uploads stay as they are" in said


def test_moment_brings_the_uploads_that_fit_it(
    wal: FakePast,
    configure: Callable[..., Settings],
    elsewhere: Elsewhere,
    media: Path,
    key: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert key.exists()
    directory = "/srv/bedstone/payments/media"
    configure(media=[{"app": "payments", "directory": directory, "copy_every_minutes": 15}])
    tags = {"app": "payments", "kind": UPLOADS, "backup": "uploads_1"}
    there = elsewhere.open(destinations_known.load().get("offsite"))
    there.ready()
    there.backup(media.parent, ["media"], tags)
    (media / "invoice.pdf").write_text("changed since")
    asked = ("--time", "2026-11-20 10:00:00 UTC", "--yes", "--json")

    assert run(*asked, "--no-media") == 0
    assert (media / "invoice.pdf").read_text() == "changed since"
    capsys.readouterr()
    assert run(*asked) == 0

    assert len(wal.asked) == 2
    result = json.loads(capsys.readouterr().out)
    assert (media / "invoice.pdf").read_text() == "the first"
    assert (Path(result["old_media"]) / "invoice.pdf").read_text() == "changed since"


def test_moment_becomes_a_backup_that_is_never_the_latest(
    wal: FakePast, settings: Settings
) -> None:
    full = create.create(settings, "payments").backup.name
    assert run("--time", "2026-11-20 10:00:00 UTC", "--yes", "--into", "payments_look") == 0
    made = catalog.backups(settings.directory / "payments")
    (point,) = [entry for entry in made if entry.name != full]
    assert point.manifest is not None
    assert point.manifest.label == "as of 2026-11-20 10:00:00+00:00"
    assert catalog.resolve(settings.directory / "payments", "latest").name == full
    assert wal.asked


def test_what_was_brought_back_is_gone_afterwards(wal: FakePast, root: Path) -> None:
    assert run("--time", "2026-11-20 10:00:00 UTC", "--yes") == 0
    assert not wal.places[0].exists()
    assert list((root / "var/cache/bedstone-restore/payments").iterdir()) == []


def test_moment_that_can_not_be_reached_touches_nothing(
    wal: FakePast, postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    wal.error = UnreachableTimeError("It can't.", hint="From A (the earliest) to B (the latest).")
    assert run("--time", "2020-01-01 10:00:00 UTC", "--yes") == 3
    assert "the earliest" in capsys.readouterr().err
    assert postgres.names() == ["payments"]


def test_server_that_does_not_answer_is_restored_from_what_is_there(
    wal: FakePast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(_: Stanza) -> str:
        raise BedstoneError("PostgreSQL doesn't answer on this server.")

    monkeypatch.setattr(Stanza, "switch", silent)
    assert run("--time", "2026-11-20 10:00:00 UTC", "--yes") == 0
    assert "may not be at local: PostgreSQL doesn't answer" in capsys.readouterr().err
    assert wal.asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say what is to be restored"),
        (("latest", "--time", "2026-11-20 10:00:00 UTC"), "One of these is enough"),
        (("latest", "--destination", "ofsite"), "Did you mean 'offsite'"),
        (("latest", "--as-of", "2026-11-20 10:00:00 UTC"), "--as-of is about a destination"),
        (
            ("latest", "--destination", "offsite", "--as-of", "2026-11-20 10:00:00 UTC"),
            "can only be read as it is now",
        ),
        (("--release", "R12"), "There is no restore point of the release R12"),
        (("--time", "2026-11-20 10:00:00 UTC"), "nobody is there to answer"),
    ],
)
def test_what_is_not_clear_is_refused(
    wal: FakePast, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    yes = () if "nobody" in said else ("--yes",)
    assert run(*arguments, *yes) == 3
    assert said in capsys.readouterr().err
    assert wal.asked == []


@pytest.mark.parametrize("text", ["yesterday", "2026-11-20 10:00:00", "2026-11-31 10:00 UTC"])
def test_moment_without_a_zone_or_sense_is_not_understood(
    wal: FakePast, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--time", text, "--yes")
    assert ended.value.code == 2
    assert "2026-11-20 10:00:00+00:00" in capsys.readouterr().err
    assert wal.asked == []


def test_server_without_wal_has_no_moments(
    settings: Settings,
    postgres: FakePostgres,
    destinations: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert settings.apps
    assert postgres.names()
    destinations(wal=False)
    assert run("--time", "2026-11-20 10:00:00 UTC", "--yes") == 3
    assert "No WAL is archived on this server" in capsys.readouterr().err


def test_restore_point_is_found_by_its_release(settings: Settings, postgres: FakePostgres) -> None:
    made = create.create(settings, "payments", label="20261120_101500-v2", with_media=False)
    postgres.put("payments", {"public.payment": 9})
    assert run("--release", "20261120_101500-v2", "--yes") == 0
    assert postgres.rows("payments") == {"public.payment": 3}
    assert made.backup.name


def test_ledger_knows_the_restore_point_of_a_rollback(
    settings: Settings, postgres: FakePostgres
) -> None:
    made = create.create(settings, "payments", label="before v1", with_media=False).backup.name
    with ledger.opened() as connection:
        connection.execute(
            "INSERT INTO operations (app, kind, release, state, started_at, restore_point)"
            " VALUES ('payments', 'rollback', 'v1', 'succeeded', '2026-11-20', ?)",
            (made,),
        )
        assert releases.operations(connection, "payments")[0].restore_point == made
    postgres.put("payments", {"public.payment": 9})
    assert run("--release", "v1", "--yes") == 0
    assert postgres.rows("payments") == {"public.payment": 3}


def test_backup_of_a_destination_is_fetched_and_gone_afterwards(
    settings: Settings,
    postgres: FakePostgres,
    destinations: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    destinations()
    made = create.create(settings, "payments").backup.path
    elsewhere = root / "elsewhere"
    made.rename(elsewhere)
    postgres.put("payments", {"public.payment": 9})
    fetched: list[Path] = []

    def fetch(destination: Destination, app: str, name: str, into: Path, **_: object) -> Path:
        assert (destination.name, app, name) == ("offsite", "payments", made.name)
        into.mkdir(mode=0o700)
        elsewhere.rename(into / name)
        fetched.append(into / name)
        return into / name

    monkeypatch.setattr(copies, "fetch", fetch)
    assert run(made.name, "--destination", "offsite", "--yes") == 0
    assert postgres.rows("payments") == {"public.payment": 3}
    assert f"{made.name} was fetched from offsite" in capsys.readouterr().out
    assert not fetched[0].exists()


def test_what_a_killed_restore_brought_back_is_cleared_by_the_next(
    wal: FakePast, root: Path
) -> None:
    home = root / "var/cache/bedstone-restore/payments"
    home.mkdir(parents=True)
    home.chmod(0o711)  # whatever the umask of who tests is
    (home / "verify-0123456789ab").mkdir()
    (home / "verify-0123456789ab/past").touch()
    (home / "verify-0123456789ab.json").write_text(
        json.dumps({"kind": "bedstone-throwaway", "app": "payments"})
    )
    assert run("--time", "2026-11-20 10:00:00 UTC", "--yes") == 0
    assert list(home.iterdir()) == []
    assert wal.asked


def test_list_shows_backups_and_moments(
    wal: FakePast,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = create.create(settings, "payments").backup.name

    def info(_: Stanza, destination: Destination) -> Any:
        raise BedstoneError(f"{destination.name} doesn't answer")

    monkeypatch.setattr(Stanza, "info", info)
    assert run("--list") == 0
    said = capsys.readouterr().out
    assert name in said
    assert "offsite can't be asked: offsite doesn't answer" in said
    assert run("--list", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["backups"][0]["name"] == name
    assert set(document["problems"]) == {"local", "offsite"}
    assert wal.asked == []


def test_moment_is_understood_in_any_zone() -> None:
    assert source.moment("2026-11-20 11:00:00+01:00") == MOMENT
    assert source.moment("2026-11-20T10:00:00Z") == MOMENT
    assert source.moment(" 2026-11-20 10:00 utc ") == MOMENT
    with pytest.raises(RefusedError, match="doesn't say in which time zone"):
        source.moment("2026-11-20 10:00:00")
