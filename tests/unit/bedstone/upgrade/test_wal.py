"""The write-ahead log goes on to be archived after an upgrade."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.core.process import Completed
from bedstone.storage import destinations
from bedstone.system.systemd import Systemd
from bedstone.upgrade import wal
from bedstone.wal import stanza

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIGURATION = "[global]\nrepo1-path=/var/lib/pgbackrest\n\n[main]\npg1-path={}\npg1-port=5432\n"


class Stanza:
    """Notes that it was upgraded; or can't be."""

    fails = False
    upgraded = 0

    def __init__(self, *_: object) -> None:
        """Take whatever the real one takes."""

    def upgrade(self) -> None:
        """Count."""
        if Stanza.fails:
            raise BedstoneError("The repository can't be reached.")
        Stanza.upgraded += 1


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    path = tmp_path / "etc/pgbackrest/pgbackrest.conf"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIGURATION.format("/var/lib/postgresql/15/main"))
    path.chmod(0o640)
    monkeypatch.setattr(Stanza, "fails", False)
    monkeypatch.setattr(Stanza, "upgraded", 0)
    monkeypatch.setattr(wal, "Stanza", Stanza)
    monkeypatch.setattr(destinations, "load", lambda: SimpleNamespace(point_in_time=object()))
    return path


def _programs(monkeypatch: pytest.MonkeyPatch, version: str = "2.55.1") -> list[str]:
    called: list[str] = []

    def run(argv: Sequence[str], **_: object) -> Completed:
        called.append(" ".join(argv))
        return Completed(tuple(argv), 0, f"pgBackRest {version}\n", "", 0.1)

    monkeypatch.setattr(stanza, "run", run)
    monkeypatch.setattr(wal, "Systemd", lambda: Systemd(run))
    return called


def test_a_new_archive_begins_with_a_full_backup(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = _programs(monkeypatch)
    wal.follow(17)
    assert configuration.read_text() == CONFIGURATION.format("/var/lib/postgresql/17/main")
    assert configuration.stat().st_mode & 0o777 == 0o640
    assert Stanza.upgraded == 1
    assert called[-1] == "systemctl start --no-block bedstone-wal-full.service"
    assert capsys.readouterr().err == (
        "A new archive of the write-ahead log has begun; a full backup is being made.\n"
    )


def test_an_archive_that_can_not_be_reached_is_told_and_fails_nothing(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = _programs(monkeypatch)
    monkeypatch.setattr(Stanza, "fails", True)
    wal.follow(17)
    assert configuration.exists()
    assert called == []
    said = capsys.readouterr().err
    assert "isn't archived yet" in said
    assert "`bedstone wal full`" in said


def test_without_an_archive_there_is_nothing_to_do(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration.unlink()
    called = _programs(monkeypatch)
    wal.follow(17)
    assert wal.obstacle(17) is None
    assert (called, capsys.readouterr().err) == ([], "")


@pytest.mark.parametrize(
    ("version", "major", "fits"),
    [("2.45", 17, False), ("2.51", 17, False), ("2.52", 17, True), ("2.55.1", 17, True),
     ("2.45", 15, True), ("2.55.1", 18, True), ("3.0", 17, True)],
)  # fmt: skip
def test_a_pgbackrest_that_does_not_know_the_version_stands_in_the_way(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, *, version: str, major: int, fits: bool
) -> None:
    assert configuration.exists()
    _programs(monkeypatch, version)
    assert (wal.obstacle(major) is None) is fits
