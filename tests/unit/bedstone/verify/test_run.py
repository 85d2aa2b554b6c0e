"""Each way in which a backup can fail its verification is reported with its cause."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import catalog, create, manifest, verify_settings
from bedstone.cli import main
from bedstone.core import disk, lock, paths, scratch
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database as ledger
from bedstone.ledger import verifications
from bedstone.postgres import dump, restore_role, temporary
from bedstone.postgres.server import PostgresError, Server
from bedstone.storage import tar
from bedstone.system import priority
from bedstone.verify import run
from tests.unit.fixtures.backup import in_a_process_of_its_own, killed_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone.backup.settings import Settings
    from tests.unit.fixtures.backup import FakePostgres

CHECK = "SELECT count(*) > 0 FROM payment"
VERIFY: dict[str, Any] = {
    "directory": "/cache/verify",
    "limit_minutes": 60,
    "checks": {"payments": [CHECK]},
}


class Throwaway:
    """What runs in a temporary cluster, without one."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.answer = "true"
        self.places: list[Path] = []

    @contextmanager
    def cluster(self, place: Path, _: int, *, watch: Callable[[], None]) -> Iterator[Server]:
        self.places.append(place)
        (place / "cluster").mkdir()
        watch()
        yield Server(str(place / "socket"), 5432)

    def restore(self, _: Server, __: object, directory: Path, **___: object) -> None:
        self.rows = json.loads((directory / "toc.dat").read_text())

    def execute(self, server: Server, sql: str) -> str:
        assert server.socket != "/nowhere", "the production server was asked"
        assert server.role == restore_role.NAME
        assert "search_path" not in server.environment()["PGOPTIONS"]
        assert "default_transaction_read_only" in sql
        assert CHECK in sql
        if self.answer.startswith("ERROR"):
            raise PostgresError(self.answer)
        return self.answer


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure(verify=VERIFY)


@pytest.fixture
def made(settings: Settings, postgres: FakePostgres, root: Path) -> Path:
    """The path of a backup that is whole, on a server with PostgreSQL 17."""
    program = root / "usr/lib/postgresql/17/bin/initdb"
    program.parent.mkdir(parents=True)
    program.touch()
    assert postgres.names() == ["payments"]
    return create.create(settings, "payments").backup.path


@pytest.fixture
def elsewhere(made: Path, monkeypatch: pytest.MonkeyPatch) -> Throwaway:
    """A temporary cluster; from now on, no code may ask the production server."""
    assert made.is_dir()
    fake = Throwaway()
    monkeypatch.setattr(priority, "step_back_fully", lambda _: None)
    monkeypatch.setattr(temporary, "cluster", fake.cluster)
    monkeypatch.setattr(temporary, "restore", fake.restore)
    monkeypatch.setattr(dump, "count", lambda *_: fake.rows)
    monkeypatch.setattr(Server, "execute", lambda server, sql, *_, **__: fake.execute(server, sql))
    monkeypatch.setattr(Server, "rows", lambda *_: ["plpgsql"])
    return fake


def states() -> dict[str, str]:
    """Return the state of each part's last verification."""
    with ledger.opened() as connection:
        attempts = verifications.of_app(connection, "payments")
    return {attempt.kind: attempt.state for attempt in reversed(attempts)}


def errors() -> str:
    with ledger.opened() as connection:
        return "\n".join(a.error or "" for a in verifications.of_app(connection, "payments"))


def left() -> list[str]:
    """Return what is left of verifications."""
    home = paths.host(VERIFY["directory"])
    return sorted(entry.name for entry in home.iterdir()) if home.exists() else []


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, **changes: Any) -> None:
    """Change a manifest as a program would have written it: its checksum is right again."""
    found = manifest.read(path)
    if database := changes.pop("database", None):
        assert found.database is not None
        changes["database"] = replace(found.database, **database)
    if archive := changes.pop("media", None):
        assert found.media is not None
        changes["media"] = replace(found.media, **archive)
    manifest.write(path, replace(found, **changes))


@dataclass(frozen=True)
class World:
    """What a case of damage may change."""

    path: Path
    throwaway: Throwaway
    patch: pytest.MonkeyPatch
    configure: Callable[..., Settings]


@dataclass(frozen=True)
class Case:
    """One damage.

    Attributes:
        harm: does it.
        said: a part of what is told.
        dump: state of the dump's verification.
        media: state of the media's verification.

    """

    harm: Callable[[World], object]
    said: str
    dump: str = "failed"
    media: str = "succeeded"

    @property
    def exit_code(self) -> int:
        """What the command returns."""
        return 1 if "failed" in {self.dump, self.media} else 3


def _answers(text: str) -> Callable[[World], object]:
    return lambda world: setattr(world.throwaway, "answer", text)


def _fails(place: object, name: str, error: BaseException) -> Callable[[World], object]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return lambda world: world.patch.setattr(place, name, fail)


def _full_in_the_middle(world: World) -> None:
    world.configure(verify=VERIFY, reserve_mb=100)
    free = iter([10**12])
    world.patch.setattr(disk, "free_bytes", lambda _: next(free, 10**6))


def _gone_meanwhile(world: World) -> None:
    def gone(*_: object, **__: object) -> None:
        shutil.move(world.path, world.path.with_name(f"{catalog.DELETING}{world.path.name}"))
        raise BedstoneError("pg_restore: error: could not open the file")

    world.patch.setattr(temporary, "restore", gone)


def _in_a_loop(*_: object, **__: object) -> None:
    while True:
        signal.pause()


CASES = {
    "truncated dump": Case(
        lambda world: truncate(world.path / "database/3409.dat.zst"), "3409.dat.zst is truncated"
    ),
    "flipped bit in the dump": Case(
        lambda world: flip(world.path / "database/3409.dat.zst"), "its checksum isn't the one"
    ),
    "flipped bit in the manifest": Case(
        lambda world: flip(world.path / manifest.FILE), "manifest.json is damaged", media="failed"
    ),
    "flipped bit in the media": Case(
        lambda world: flip(world.path / manifest.read(world.path).media.archive),  # type: ignore[union-attr]
        "its checksum isn't the one",
        dump="succeeded",
        media="failed",
    ),
    "missing file": Case(
        lambda world: (world.path / "database/toc.dat").unlink(), "toc.dat is missing"
    ),
    "missing manifest": Case(
        lambda world: (world.path / manifest.FILE).unlink(),
        "isn't a backup of bedstone",
        media="failed",
    ),
    "rows that were not counted": Case(
        lambda world: rewrite(world.path, database={"rows": {"public.payment": 4}}),
        "public.payment: 4 in the backup, 3 restored",
    ),
    "files that were not archived": Case(
        lambda world: rewrite(world.path, media={"files": 2}),
        "1 files with 9 bytes were unpacked, but the backup recorded 2 files with 9 bytes",
        dump="succeeded",
        media="failed",
    ),
    "bytes that were not archived": Case(
        lambda world: rewrite(world.path, media={"bytes": 8}),
        "recorded 1 files with 8 bytes",
        dump="succeeded",
        media="failed",
    ),
    "another app's": Case(
        lambda world: rewrite(world.path, app="other"),
        "is a backup of other, not of payments",
        media="failed",
    ),
    "too new": Case(
        lambda world: rewrite(world.path, database={"server_major": 99}),
        "comes from PostgreSQL 99, which is too new for this server (it has 17)",
    ),
    "too little room": Case(
        lambda world: world.configure(verify=VERIFY, reserve_mb=10**9),
        "and has to leave",
        dump="prevented",
        media="prevented",
    ),
    "disk that fills up": Case(_full_in_the_middle, "was stopped: only", dump="prevented"),
    "disk that is full for PostgreSQL": Case(
        _fails(temporary, "restore", BedstoneError("No.", details=os.strerror(errno.ENOSPC))),
        "the disk is full",
        dump="prevented",
    ),
    "disk that is full for the media": Case(
        _fails(tar, "extract", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        "the disk is full",
        dump="succeeded",
        media="prevented",
    ),
    "cluster that doesn't start": Case(
        _fails(temporary, "cluster", temporary.ThrowawayError("It didn't start.")),
        "It didn't start",
        dump="prevented",
    ),
    "dump that pg_restore can't read": Case(
        _fails(temporary, "restore", BedstoneError("pg_restore failed.")), "pg_restore failed"
    ),
    "check that is false": Case(_answers("false"), "isn't true for what was restored: it says fal"),
    "check that says null": Case(_answers("null"), "it says nothing"),
    "check that says a number": Case(_answers("5"), "it says 5"),
    "check of a table that isn't there": Case(
        _answers('ERROR: relation "payment" does not exist'), "can't be answered"
    ),
    "removed in the middle": Case(
        _gone_meanwhile,
        "was removed while it was being verified",
        dump="prevented",
        media="prevented",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_backup_is_told_and_nothing_is_touched_or_left(
    made: Path,
    elsewhere: Throwaway,
    postgres: FakePostgres,
    configure: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    case = CASES[name]
    with monkeypatch.context() as patched:
        case.harm(World(made, elsewhere, patched, configure))
        assert main.main(["verify"]) == case.exit_code
    assert case.said in capsys.readouterr().err
    assert states() == {"dump": case.dump, "media": case.media}
    assert case.said in errors()
    assert left() == []
    assert postgres.names() == ["payments"]
    assert postgres.rows("payments") == {"public.payment": 3}


@pytest.mark.usefixtures("elsewhere")
def test_whole_backup_is_verified_and_the_list_says_so(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["verify", "payments", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert [(v["kind"], v["state"], v["rows"], v["bytes"]) for v in said["verifications"]] == [
        ("dump", "succeeded", 3, None),
        ("media", "succeeded", None, 9),
    ]
    assert {v["backup"] for v in said["verifications"]} == {made.name}
    assert {v["destination"] for v in said["verifications"]} == {"local"}
    assert left() == []
    assert main.main(["backups", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["verification"] == "succeeded"
    assert main.main(["backups"]) == 0
    assert re.search(r"\d+ s ago", capsys.readouterr().out)


@pytest.mark.usefixtures("elsewhere")
def test_list_names_the_backup_that_failed(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(made / "database/3409.dat.zst")
    main.main(["verify"])
    capsys.readouterr()
    assert main.main(["backups"]) == 0
    listed = capsys.readouterr().out
    assert f"payments: THE VERIFICATION of {made.name} FAILED: {made} is damaged: " in listed
    assert "FAILED" in listed.splitlines()[1]


@pytest.mark.usefixtures("elsewhere")
def test_backup_whose_media_are_not_verified_is_not_verified(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, "full")
    monkeypatch.setattr(tar, "extract", lambda *_, **__: (_ for _ in ()).throw(full))
    assert main.main(["verify"]) == 3
    capsys.readouterr()
    main.main(["backups", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == made.name
    assert entry["verification"] is None


# --- which one ----------------------------------------------------------------------------


def again(settings: Settings, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """Make another backup, while the production server may be asked."""
    with monkeypatch.context() as patched:
        patched.setattr(Server, "execute", lambda *_, **__: "")
        return create.create(settings, "payments", **options).backup.path


def verified() -> list[str | None]:
    with ledger.opened() as connection:
        attempts = verifications.of_app(connection, "payments")
    return [attempt.backup for attempt in attempts if attempt.state == "succeeded"]


@pytest.mark.usefixtures("elsewhere")
def test_restore_point_is_not_the_newest_backup(
    settings: Settings, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = again(settings, monkeypatch, with_media=False)
    assert main.main(["verify"]) == 0
    assert set(verified()) == {made.name}
    assert main.main(["verify", "payments", "--backup", point.name]) == 0
    assert verified()[0] == point.name


@pytest.mark.usefixtures("elsewhere")
def test_damaged_newest_backup_is_not_passed_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = again(settings, monkeypatch)
    (newest / manifest.FILE).unlink()
    assert main.main(["verify"]) == 1
    assert newest.name in errors()


@pytest.mark.usefixtures("elsewhere")
def test_half_removed_backup_is_none(
    settings: Settings,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    newest = again(settings, monkeypatch)
    doomed = newest.rename(newest.with_name(f"{catalog.DELETING}{newest.name}"))
    (doomed / manifest.FILE).unlink()
    assert main.main(["verify"]) == 0
    assert set(verified()) == {made.name}
    assert main.main(["verify", "payments", "--backup", doomed.name]) == 3
    assert "isn't a finished backup" in capsys.readouterr().err
    assert doomed.is_dir()


@pytest.mark.usefixtures("elsewhere")
def test_backup_from_the_future_is_named_and_does_not_stand_for_the_others(
    settings: Settings,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    future = again(settings, monkeypatch)
    rewrite(future, started=datetime.now(UTC) + timedelta(days=400))
    assert main.main(["verify"]) == 0
    assert set(verified()) == {made.name}
    assert f"{future.name} is from the future" in capsys.readouterr().err
    shutil.rmtree(made)
    assert main.main(["verify"]) == 3
    assert "There is no full backup of payments" in capsys.readouterr().err
    assert states() == {"dump": "prevented", "media": "prevented"}


@pytest.mark.usefixtures("elsewhere")
def test_copy_elsewhere_is_proved_but_is_not_recorded(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made, tmp_path / "carried")
    assert main.main(["verify", "payments", "--backup", str(copy)]) == 0
    assert states() == {}


@pytest.mark.usefixtures("elsewhere")
def test_unknown_backup_is_refused_and_not_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verify", "payments", "--backup", "backup_19990101_000000"]) == 3
    assert "There is no backup" in capsys.readouterr().err
    assert states() == {}


def test_app_that_waited_longest_comes_first(
    configure: Callable[..., Settings], elsewhere: Throwaway, capsys: pytest.CaptureFixture[str]
) -> None:
    apps = [{"app": name, "name": name, "owner": "x"} for name in ("payments", "shop", "wiki")]
    configure(verify=VERIFY, databases=apps)
    assert main.main(["verify", "payments"]) == 0
    assert main.main(["verify", "shop"]) == 3
    capsys.readouterr()
    main.main(["verify", "--json"])
    said = json.loads(capsys.readouterr().out)["verifications"]
    assert list(dict.fromkeys(v["app"] for v in said)) == ["wiki", "payments", "shop"]
    assert len(elsewhere.places) == 2


# --- limits, kills and two at once ----------------------------------------------------------


@pytest.mark.usefixtures("elsewhere")
def test_two_at_once_are_told_of_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with lock.held(run.LOCK, "bedstone verify payments"):
        assert main.main(["verify"]) == 3
    said = capsys.readouterr().err
    assert "Another verification is running: `bedstone verify payments` (process " in said
    assert states() == {}
    assert left() == []


@pytest.mark.usefixtures("elsewhere")
def test_verification_that_hangs_is_stopped_by_its_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(temporary, "restore", _in_a_loop)
    short = replace(verify_settings.load(), limit_seconds=0.5)
    monkeypatch.setattr(verify_settings, "load", lambda: short)
    assert main.main(["verify"]) == 3
    assert "its time limit was reached" in capsys.readouterr().err
    assert states() == {"dump": "prevented", "media": "prevented"}
    assert left() == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.usefixtures("elsewhere")
def test_verification_that_is_ended_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "restore", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main.main(["verify"]) == 130
    assert states() == {"dump": "prevented"}
    assert left() == []


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("part", ["dump", "media"])
def test_what_a_killed_one_left_goes_with_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    module, step = {"dump": (temporary, "restore"), "media": (tar, "extract")}[part]
    with monkeypatch.context() as patched:
        patched.setattr(module, step, killed_in(module, step, after=True))
        ended = in_a_process_of_its_own(lambda: main.main(["verify"]))
    assert ended == -signal.SIGKILL
    assert len(left()) == 2
    own = paths.host(VERIFY["directory"]) / "verify-of-a-person"
    own.mkdir()
    assert main.main(["verify", "--clean-up"]) == 0
    assert left() == [own.name], "what has no marker stays"
    assert "removed what an interrupted verification of payments left" in capsys.readouterr().err
    assert states()[part] == "prevented"
    assert "It was killed" in errors()


def test_directory_that_others_may_write_to_is_not_used(
    elsewhere: Throwaway, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "cache/verify").mkdir(parents=True)
    (root / "cache/verify").chmod(0o777)
    assert main.main(["verify"]) == 3
    assert "Others than root can write" in capsys.readouterr().err
    assert elsewhere.places == []


def test_marker_of_another_program_is_left_alone(root: Path) -> None:
    home = root / "cache/verify"
    (home / "verify-0123456789ab").mkdir(parents=True)
    (home / "verify-0123456789ab.json").write_text('{"kind": "something else"}')
    (home / "verify-ba9876543210.json").write_text("{")
    assert scratch.clear(home) == []
    assert len(left()) == 3


def test_damaged_ledger_does_not_prevent_a_verification(elsewhere: Throwaway, root: Path) -> None:
    (root / "var/lib/bedstone/ledger.sqlite").write_text("this is no database, but long enough" * 9)
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (root / "var/lib/bedstone" / name).unlink(missing_ok=True)
    assert main.main(["verify"]) == 0
    assert len(elsewhere.places) == 1
