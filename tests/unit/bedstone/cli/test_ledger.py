"""A ledger that is damaged, gone or of a newer program: what serves serves on, and it is mended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bedstone.apps import config, current, network, slots
from bedstone.cli import main
from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database
from bedstone.ledger import releases as history
from bedstone.release import ledger_rebuild, operations
from bedstone.status import gather
from bedstone.system.docker import Docker
from tests.unit.fixtures.release import root, server
from tests.unit.fixtures.server import Server

__all__ = ["root", "server"]

if TYPE_CHECKING:
    from collections.abc import Callable

CLI_LOOKS = ("releases", "shop")


def _zeros(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _gone(path: Path) -> None:
    path.unlink()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _text(path: Path) -> None:
    path.write_text("not a database\n" * 1000)


def _pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


DAMAGES = [_zeros, _empty, _gone, _truncated, _text, _pages, _newer]


@pytest.fixture(autouse=True)
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_sound", set())
    monkeypatch.setattr(database, "stand_in", None)
    monkeypatch.setattr(ledger_rebuild, "_stand_in_path", [])


@pytest.fixture
def releases(server: Server) -> list[str]:
    """Two releases of an app, the second of which serves in the slot green."""
    first = operations.release("shop", host=server.host())
    second = operations.release("shop", host=server.host())
    assert first.ok
    assert second.ok
    return [str(first.release), str(second.release)]


def damage(how: Callable[[Path], None]) -> Path:
    """Damage the ledger, with all of it in the one file, as after a clean end."""
    path = paths.ledger()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    how(path)
    database._sound.clear()
    return path


@pytest.mark.parametrize("how", DAMAGES)
def test_what_serves_is_known_without_the_ledger(
    server: Server, releases: list[str], how: Callable[[Path], None]
) -> None:
    path = damage(how)
    with pytest.raises(database.UnreadableError) as caught:
        database.connect()
    assert "bedstone ledger rebuild" in str(caught.value.hint)
    before = path.read_bytes() if path.exists() else None
    # What a container needs to start.
    server.networks.clear()
    current_app = slots.read("shop", "web@green")
    assert current_app.release == releases[1]
    app = config.load_file(paths.release("shop", releases[1]) / "app.json")
    network.ensure(Docker(server.run), app)
    # What people look with.
    database.stand_in = ledger_rebuild.stand_in
    assert current.load("shop").release == releases[1]
    with database.opened() as connection:
        assert [entry.id for entry in history.kept(connection, "shop")] == releases[::-1]
    assert (path.read_bytes() if path.exists() else None) == before, "it was only looked at"


@pytest.mark.parametrize("how", DAMAGES)
def test_it_is_put_right_after_a_crash_all_the_same(
    server: Server, releases: list[str], how: Callable[[Path], None]
) -> None:
    damage(how)
    database.stand_in = ledger_rebuild.stand_in
    server.active.clear()
    outcome = operations.put_right("shop", host=server.host())
    assert outcome.ok
    assert server.serves()["web@green"] == releases[1]
    assert "bedstone-shop-web@green.service" in server.active


@pytest.mark.parametrize("how", DAMAGES)
def test_it_is_made_again_from_what_is_kept(
    server: Server,
    releases: list[str],
    how: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = damage(how)
    there = path.exists()
    assert main.main(["ledger", "rebuild"]) == 0
    said = capsys.readouterr().out
    assert "made again" in said
    assert len(list(path.parent.glob("ledger.damaged-*.sqlite"))) == there
    with database.opened() as connection:
        assert history.serving(connection, "shop") == history.Serving(releases[1], "green")
    assert not operations.release("shop", host=server.host(), if_changed=True).changed
    outcome = operations.rollback("shop", host=server.host())
    assert (outcome.ok, outcome.release) == (True, releases[0])
    # Twice is as good as once.
    assert main.main(["ledger", "rebuild"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_release_waits_until_the_ledger_is_mended(server: Server, releases: list[str]) -> None:
    del releases
    damage(_zeros)
    calls = len(server.calls)
    with pytest.raises(BedstoneError, match="can't be opened") as caught:
        operations.release("shop", host=server.host())
    assert "`bedstone ledger rebuild`" in str(caught.value.hint)
    assert len(server.calls) == calls, "nothing was touched"


def test_rebuild_waits_for_no_operation_on_its_way(server: Server, releases: list[str]) -> None:
    del server, releases
    damage(_zeros)
    with lock.held("shop", "a release"), pytest.raises(lock.LockedError):
        ledger_rebuild.rebuild()


def test_damage_on_the_disk_that_sqlite_opens_is_found(server: Server, releases: list[str]) -> None:
    del server, releases
    with database.opened() as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'alarms'"
        ).fetchone()[0]
    path = paths.ledger()

    def one_page(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[(root - 1) * 4096 : root * 4096] = b"\x37" * 4096
        path.write_bytes(data)

    damage(one_page)
    with pytest.raises(database.UnreadableError, match=r"damaged|malformed"):
        database.connect()
    kept, lost = ledger_rebuild.rebuild()
    assert kept is not None
    assert [text for text in lost if "alarms" in text]
    assert path.exists()


def test_what_can_be_read_of_the_old_file_comes_along(server: Server, releases: list[str]) -> None:
    del server
    with database.opened() as connection:
        connection.execute("INSERT INTO alarms VALUES ('disk', '2026-01-01', NULL)")
        before = history.operations(connection, "shop")
    damage(_newer)
    assert ledger_rebuild.rebuild()[1] == []
    with database.opened() as connection:
        assert history.operations(connection, "shop") == before
        assert connection.execute("SELECT name FROM alarms").fetchone()["name"] == "disk"
        assert [entry.id for entry in history.kept(connection, "shop")] == releases[::-1]


def test_older_program_is_not_installed_over_a_newer_ledger(
    server: Server, releases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del server, releases
    assert main.main(["ledger", "version", "--fits"]) == 0
    damage(_newer)
    assert main.main(["ledger", "version", "--fits"]) == 3
    said = capsys.readouterr().err
    assert "schema 99" in said
    assert "git pull" in said


@pytest.mark.parametrize("how", [_zeros, _gone, _text, None])
def test_a_damaged_ledger_keeps_no_program_from_being_installed(
    server: Server, releases: list[str], how: Callable[[Path], None] | None
) -> None:
    del server, releases
    if how is not None:
        damage(how)
    assert main.main(["ledger", "version", "--fits"]) == 0


def test_status_tells_what_mends_it(
    server: Server, releases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del server
    damage(_text)
    database.stand_in = ledger_rebuild.stand_in
    picture = gather.gather(
        gather.Tools(seconds=0.2, database=lambda: None, wal=lambda: None, upgrades=lambda: None)
    )
    assert "bedstone ledger rebuild" in picture["problems"][0]
    assert picture["apps"][0]["release"] == releases[1]
    assert main.main(list(CLI_LOOKS)) == 0
    assert releases[0] in capsys.readouterr().out
