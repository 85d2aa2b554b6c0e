"""The ledger's schema and the locks."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, releases


def test_ledger_is_made_and_opened_again(root: Path) -> None:
    for _ in range(2):
        with database.opened() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            assert version == len(database.MIGRATIONS)
    assert (root / "var/lib/bedstone").stat().st_mode & 0o077 == 0


def test_each_schema_is_brought_up_to_date(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del root
    latest = database.MIGRATIONS
    monkeypatch.setattr(database, "MIGRATIONS", latest[:1])
    with database.opened() as connection:
        connection.execute("INSERT INTO apps VALUES ('shop', 'r1', 'blue')")
    monkeypatch.setattr(database, "MIGRATIONS", (*latest, "CREATE TABLE later (x TEXT) STRICT"))
    with database.opened() as connection:
        assert connection.execute("SELECT count(*) FROM later").fetchone()[0] == 0
        assert connection.execute("SELECT slot FROM apps").fetchone()[0] == "blue"


def test_steps_of_earlier_releases_become_an_operation(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del root
    latest = database.MIGRATIONS
    monkeypatch.setattr(database, "MIGRATIONS", latest[:2])
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO releases (app, id, version, fingerprint, state, started_at, failed_step)"
            " VALUES ('shop', 'r1', 'v', 'f', 'failed', '2026-11-20T10:00:00+00:00', 'check')"
        )
        connection.execute("INSERT INTO steps VALUES ('shop', 'r1', 0, 'check', 'failed', 1.5)")
    monkeypatch.setattr(database, "MIGRATIONS", latest)
    with database.opened() as connection:
        (operation,) = releases.operations(connection, "shop")
        assert (operation.kind, operation.release) == ("release", "r1")
        assert (operation.state, operation.failed_step) == ("failed", "check")
        (step,) = releases.steps(connection, operation.id)
        assert (step.name, step.state, step.seconds) == ("check", "failed", 1.5)


def test_failed_migration_leaves_the_old_schema(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del root
    with database.opened():
        pass
    broken = "CREATE TABLE later (x TEXT); CREATE TABLE oops ("
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, broken))
    with pytest.raises(BedstoneError, match="can't be opened"):
        database.connect()
    with closing(sqlite3.connect(paths.ledger())) as connection:
        assert (
            connection.execute("SELECT * FROM sqlite_master WHERE name = 'later'").fetchall() == []
        )


def test_newer_ledger_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del root
    with database.opened():
        pass
    monkeypatch.setattr(database, "MIGRATIONS", ())
    with pytest.raises(BedstoneError, match="a newer bedstone wrote it"):
        database.connect()


MANY = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 2000)
INSERT INTO apps SELECT 'app' || n, 'r1', 'blue' FROM number
"""


@pytest.mark.usefixtures("root")
def test_full_disk_is_said_and_leaves_the_ledger_as_it_was() -> None:
    with database.opened() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with (
            pytest.raises(database.UnwritableError, match="database or disk is full") as raised,
            database.transaction(connection),
        ):
            connection.execute(MANY)
        assert "df -h" in raised.value.text()
        assert connection.execute("SELECT count(*) FROM apps").fetchone()[0] == 0


def test_failed_transaction_leaves_nothing(root: Path) -> None:
    del root
    with database.opened() as connection:
        with suppress(KeyError), database.transaction(connection):
            connection.execute("INSERT INTO apps VALUES ('shop', 'x', 'blue')")
            raise KeyError
        assert connection.execute("SELECT count(*) FROM apps").fetchone()[0] == 0


HOLDER = """
from bedstone.core import lock
with lock.held("shop", "bedstone release shop"):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def holder(root: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of shop."""
    environment = {**os.environ, "BEDSTONE_ROOT": str(root), "PYTHONPATH": "src"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_second_is_told_who_and_since_when(holder: subprocess.Popen[str]) -> None:
    said = rf"`bedstone release shop` \(process {holder.pid}, .*, since \d{{4}}-"
    with pytest.raises(lock.LockedError, match=said) as caught, lock.held("shop", "x"):
        pass
    assert caught.value.exit_code == 3
    with lock.held("wiki", "another app"):
        pass
    holder.communicate("\n")


def test_dead_holder_never_blocks(holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with lock.held("shop", "x"):
        pass


def test_lock_is_free_after_an_error(root: Path) -> None:
    del root
    for _ in range(2):
        with pytest.raises(KeyError), lock.held("shop", "x"):
            raise KeyError


def test_waits_for_another_holder(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin
    holder.stdin.write("\n")
    holder.stdin.flush()
    with lock.held("shop", "x", wait_seconds=10):
        pass
    holder.communicate()
