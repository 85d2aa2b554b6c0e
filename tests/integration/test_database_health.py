"""The questions to the catalogues, asked of a real PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedstone.backup.settings import load
from bedstone.ledger import database as ledger
from bedstone.postgres.snapshot import reader
from bedstone.status import growth, postgres_health
from tests.integration.cluster import PORT, Cluster


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def look(cluster: Cluster, database: str, root: Path) -> Callable[[], dict[str, Any]]:
    """Look at the cluster as that of an app with one database."""
    (root / "etc/bedstone").mkdir(parents=True)
    (root / "etc/bedstone/backup.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "directory": "/backups",
                "keep_days": 30,
                "keep_at_least": 3,
                "reserve_mb": 0,
                "jobs": 1,
                "socket": cluster.server.socket,
                "port": PORT,
                "databases": [{"app": "shop", "name": database, "owner": "postgres"}],
                "media": [],
            }
        )
    )

    def look() -> dict[str, Any]:
        found = postgres_health.gather()
        assert found is not None
        assert json.dumps(found)
        return found

    return look


def test_fresh_server_is_well(look: Callable[[], dict[str, Any]], database: str) -> None:
    found = look()
    assert found["problems"] == []
    assert found["error"] is None
    assert found["version"][0].isdigit()
    assert database in [entry["name"] for entry in found["databases"]]
    assert 0 < found["wraparound"]["age"] < found["wraparound"]["warn_at"]
    assert found["checksums"]["failures"] == 0


def counted(cluster: Cluster, database: str, sql: str) -> None:
    """Wait until PostgreSQL's statistics say so: a session's work is counted when it has ended."""
    limit = time.monotonic() + 60
    while cluster.administrator.value(f"SELECT {sql} FROM pg_stat_user_tables", database) != "t":
        assert time.monotonic() < limit, sql
        time.sleep(0.05)


def test_table_that_is_not_vacuumed_is_told(
    cluster: Cluster, look: Callable[[], dict[str, Any]], database: str
) -> None:
    made = (
        "CREATE TABLE orders (id int) WITH (autovacuum_enabled = false,"
        " autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0.1);"
        "INSERT INTO orders SELECT generate_series(1, 30000)"
    )
    for statement in (made, "ANALYZE orders", "UPDATE orders SET id = -id"):
        cluster.administrator.execute(statement, database)
    counted(cluster, database, "n_dead_tup = 30000 AND last_analyze IS NOT NULL")
    (table,) = look()["tables"]
    assert table["table"] == "public.orders"
    assert (table["dead"], table["dead_limit"], table["changed"]) == (30000, 3100, 30000)
    assert table["autovacuum"] is False
    assert table["vacuumed_seconds"] is None
    assert table["analyzed_seconds"] is not None
    (problem,) = look()["problems"]
    assert f"doesn't keep up with public.orders ({database}): 30000 dead rows (50 %)" in problem
    cluster.administrator.execute("VACUUM (ANALYZE) orders", database)
    counted(cluster, database, "n_dead_tup = 0")
    assert look()["problems"] == []


@pytest.fixture
def open_transaction(cluster: Cluster, database: str) -> Iterator[None]:
    with subprocess.Popen(
        cluster.server.psql(database),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**cluster.server.environment(), "PGAPPNAME": "forgotten", "PATH": "/usr/bin:/bin"},
        text=True,
    ) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write("BEGIN;\nSELECT 'begun';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "begun\n"
        yield
        session.stdin.close()


@pytest.mark.usefixtures("open_transaction")
def test_transaction_that_was_left_open_is_seen(
    look: Callable[[], dict[str, Any]], database: str
) -> None:
    (session,) = look()["idle_in_transaction"]
    assert (session["program"], session["database"]) == ("forgotten", database)
    assert session["seconds"] >= 0


def test_emptiness_is_measured_where_pgstattuple_is(
    cluster: Cluster,
    look: Callable[[], dict[str, Any]],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.administrator.execute(
        'CREATE SCHEMA "Tools"; CREATE EXTENSION pgstattuple SCHEMA "Tools";'
        "CREATE TABLE orders AS SELECT generate_series(1, 20000) AS id;"
        "DELETE FROM orders WHERE id > 2000; VACUUM (TRUNCATE off) orders;",
        database,
    )
    # As a backup does.
    reader(cluster.server, database)
    monkeypatch.setattr(postgres_health, "_LARGE_TABLE_BYTES", 8192)
    (table,) = look()["tables"]
    assert table["empty_percent"] == pytest.approx(90, abs=15)


def test_databases_are_measured(
    cluster: Cluster, look: Callable[[], dict[str, Any]], database: str
) -> None:
    assert look()
    growth.take(load(), cluster.server)
    with ledger.opened() as connection:
        (row,) = connection.execute(
            "SELECT bytes FROM measurements WHERE kind = 'database' AND name = ?", (database,)
        ).fetchall()
    assert row["bytes"] > 1024**2
