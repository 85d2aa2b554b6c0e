"""A root of its own for each test, and a PostgreSQL made of files.

The fake server keeps each database as a JSON file, so that it survives a process that is
killed, as the real one does. ``pg_dump`` and ``pg_restore`` are replaced at the seam that
``bedstone.postgres.dump`` is; what PostgreSQL itself does is tested in molecule/backup.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.appdata import swap
from bedstone.backup import settings as backup_settings
from bedstone.core.errors import BedstoneError
from bedstone.postgres import dump, privileges, restore_role
from bedstone.postgres import properties as database_properties
from bedstone.postgres.dump import Database
from bedstone.postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bedstone.backup.settings import Settings

PROPERTIES = {"owner": "payments_owner", "size": 1000}


class FakePostgres:
    """Databases as files: ``NAME`` -> {"oid": ..., "rows": {table: number}}."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.major = 17
        self.roles = {"payments_owner", "payments_app", "postgres"}
        self.extensions = {"plpgsql"}

    def put(self, name: str, rows: Mapping[str, int]) -> None:
        path = self.directory / name
        oid = json.loads(path.read_text())["oid"] if path.exists() else self._next_oid()
        path.write_text(json.dumps({"oid": oid, "rows": dict(rows)}))

    def rows(self, name: str) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.directory / name).read_text())["rows"]
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())

    def rename(self, old: str, new: str) -> None:
        (self.directory / old).rename(self.directory / new)

    def drop(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)

    def oid(self, name: str) -> int | None:
        path = self.directory / name
        return int(json.loads(path.read_text())["oid"]) if path.exists() else None

    def _next_oid(self) -> int:
        oids = [json.loads(path.read_text())["oid"] for path in self.directory.iterdir()]
        return max(oids, default=100) + 1


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def media(root: Path) -> Path:
    directory = root / "srv/bedstone/payments/media"
    directory.mkdir(parents=True)
    (directory / "invoice.pdf").write_text("the first")
    return directory


@pytest.fixture
def configure(root: Path, media: Path) -> Callable[..., Settings]:
    """Write backup.json with some values changed, and return what the program reads."""

    def write(**changes: Any) -> Settings:
        path = root / "etc/bedstone/backup.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {
                    "schema": 1,
                    "directory": "/backups",
                    "keep_days": 30,
                    "keep_at_least": 2,
                    "reserve_mb": 0,
                    "jobs": 1,
                    "socket": "/nowhere",
                    "port": 5432,
                    "databases": [
                        {"app": "payments", "name": "payments", "owner": "payments_owner"}
                    ],
                    "media": [{"app": "payments", "directory": "/srv/bedstone/payments/media"}],
                    **changes,
                }
            )
        )
        return backup_settings.load()

    assert media.is_dir()
    return write


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure()


@pytest.fixture
def postgres(root: Path, monkeypatch: pytest.MonkeyPatch) -> FakePostgres:
    fake = FakePostgres(root / "postgresql")
    fake.put("payments", {"public.payment": 3})
    _fake_server(fake, monkeypatch)
    _fake_dump(fake, monkeypatch)
    return fake


def _fake_server(fake: FakePostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(_: Server, sql: str, *__: object, **___: object) -> str:
        if found := re.match(r'DROP DATABASE IF EXISTS "(\w+)"', sql):
            fake.drop(found[1])
        if found := re.match(r'CREATE DATABASE "(\w+)"', sql):
            fake.put(found[1], {})
        return ""

    def swapped(_: Server, name: str, side: str, old: str) -> None:
        fake.rename(name, old)
        fake.rename(side, name)

    def properties(_: Server, name: str) -> dict[str, Any] | None:
        return {**PROPERTIES, "datname": name} if fake.oid(name) else None

    def rows(_: Server, query: str, *__: object) -> list[Any]:
        if "pg_database_size" in query:
            return [[name, 1000] for name in fake.names()]
        return sorted(fake.extensions)

    monkeypatch.setattr(Server, "execute", execute)
    monkeypatch.setattr(Server, "value", lambda *_: str(fake.directory))
    monkeypatch.setattr(Server, "major", lambda _: fake.major)
    monkeypatch.setattr(Server, "oid", lambda _, name: fake.oid(name))
    monkeypatch.setattr(Server, "roles", lambda _: fake.roles)
    monkeypatch.setattr(Server, "rows", rows)
    monkeypatch.setattr(database_properties, "read", properties)
    monkeypatch.setattr(
        database_properties, "create_statement", lambda name, *_: f'CREATE DATABASE "{name}"'
    )
    monkeypatch.setattr(database_properties, "like", lambda *_: "")
    monkeypatch.setattr(privileges, "statements", lambda *_: "")
    monkeypatch.setattr(swap, "database", swapped)
    no_restore_role(monkeypatch)
    monkeypatch.setattr(swap, "new_database", lambda _, name, side: fake.rename(side, name))


def no_restore_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the roles of a server alone: tests/integration/test_restore_role.py has a real one."""

    @contextmanager
    def login(_: Server, owner: str, *__: object) -> Iterator[restore_role.Login]:
        yield restore_role.Login(restore_role.NAME, owner, frozenset())

    monkeypatch.setattr(restore_role, "login", login)
    monkeypatch.setattr(restore_role, "refuse_strangers", lambda *_: None)


def _fake_dump(fake: FakePostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_: Server, database: str, directory: Path, **__: object) -> Database:
        if fake.oid(database) is None:
            raise BedstoneError(f"The database {database} isn't on this server.")
        directory.mkdir()
        (directory / "toc.dat").write_text(json.dumps(fake.rows(database)))
        (directory / "3409.dat.zst").write_text("x" * 500)
        return Database(
            name=database,
            bytes=1000,
            server_version=f"{fake.major}.1",
            server_major=fake.major,
            dump_version="pg_dump",
            compression="zstd",
            properties=dict(PROPERTIES),
            roles=["payments_app", "payments_owner"],
            extensions={"plpgsql": "1.0"},
            rows=fake.rows(database),
        )

    def contents(_: Server, directory: Path) -> int:
        try:
            return len(json.loads((directory / "toc.dat").read_text()))
        except ValueError as error:
            raise BedstoneError("pg_restore: error: did not find magic string") from error

    def load(_: Server, directory: Path, database: str, **__: object) -> None:
        fake.put(database, json.loads((directory / "toc.dat").read_text()))

    monkeypatch.setattr(dump, "dump", make)
    monkeypatch.setattr(dump, "contents", contents)
    monkeypatch.setattr(dump, "listing", lambda *_: "")
    monkeypatch.setattr(dump, "load", load)
    monkeypatch.setattr(dump, "count", lambda _, database: fake.rows(database))


def killed_in(module: object, name: str, *, after: bool = False) -> Callable[..., Any]:
    """Return a stand-in for a function in which the process is killed (-9)."""
    real = getattr(module, name)

    def fatal(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return fatal


def in_a_process_of_its_own(function: Callable[[], object]) -> int:
    """Run a function in a child and return how that ended, as os.waitstatus_to_exitcode does."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:  # noqa: BLE001 - the child must not run the parent's tests on
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
