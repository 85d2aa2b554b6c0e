"""How the database server is: what is asked, what is judged, and what is shown."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.cli import main
from bedstone.core.terminal import Paint
from bedstone.ledger import database as ledger
from bedstone.ledger import growth as ledger_growth
from bedstone.postgres.server import PostgresError, Server
from bedstone.status import database as shown_database
from bedstone.status import growth, postgres_health, screen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MILLION, MIB, GIB = 10**6, 1024**2, 1024**3

CLUSTER: dict[str, Any] = {
    "version": "17.6 (Debian 17.6-0+deb13u1)",
    "autovacuum": True,
    "checksums": True,
    "xid_limit": 200 * MILLION,
    "xid_failsafe": 1600 * MILLION,
    "mxid_limit": 400 * MILLION,
    "mxid_failsafe": 1600 * MILLION,
    "prepared": 0,
    "inactive_slots": 0,
    "shared_checksum_failures": 0,
    "databases": [
        {
            "name": name,
            "template": name.startswith("template"),
            "bytes": 0 if name.startswith("template") else GIB,
            "xid_age": 190 * MILLION,
            "mxid_age": MILLION,
            "checksum_failures": 0,
        }
        for name in ("postgres", "shop", "template0", "template1")
    ],
    "idle": [],
}
TABLE: dict[str, Any] = {
    "table": "public.orders",
    "bytes": 300 * MIB,
    "rows": 1_000_000,
    "dead": 1000,
    "dead_limit": 200_050,
    "changed": 1000,
    "changed_limit": 100_050,
    "autovacuum": True,
    "vacuumed_seconds": 86_400 * 3,
    "analyzed_seconds": 86_400 * 3,
}

KEYS = (
    "version", "error", "databases", "wraparound", "checksums", "idle_in_transaction", "tables",
    "disks", "problems",
)  # fmt: skip


class Postgres:
    """Answers what is asked; a test changes it."""

    def __init__(self) -> None:
        self.cluster = deepcopy(CLUSTER)
        self.tables = [dict(TABLE)]
        self.empty: dict[str, float] | None = None
        self.away: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def rows(self, query: str, database: str = "postgres") -> list[Any]:
        self.asked.append((database, query))
        if database in self.away:
            raise PostgresError("PostgreSQL doesn't answer on this server.", hint="See.")
        if "pg_prepared_xacts" in query:
            return [self.cluster]
        if "pg_stat_user_tables" in query:
            return self.tables
        if "pgstattuple_approx" in query:
            return [[name, percent] for name, percent in (self.empty or {}).items()]
        assert "extname = 'pgstattuple'" in query
        return [] if self.empty is None else ["public"]

    def database(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(d for d in self.cluster["databases"] if d["name"] == name)
        return found


@pytest.fixture
def postgres(root: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A server with the database of one app."""
    (root / "etc/bedstone").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/postgresql").mkdir(parents=True)
    (root / "etc/bedstone/backup.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "directory": "/var/backups/bedstone",
                "keep_days": 30,
                "keep_at_least": 3,
                "reserve_mb": 0,
                "jobs": 1,
                "socket": "/nowhere",
                "port": 5432,
                "databases": [{"app": "shop", "name": "shop", "owner": "shop_owner"}],
                "media": [],
            }
        )
    )
    fake = Postgres()
    monkeypatch.setattr(Server, "rows", fake.rows)
    return fake


def look() -> dict[str, Any]:
    found = postgres_health.gather(NOW)
    assert found is not None
    return found


def problem() -> str:
    (found,) = look()["problems"]
    return str(found)


def on_screen(found: dict[str, Any] | None = None) -> list[str]:
    return list(shown_database.lines(found or look(), Paint(on=False)))


# --- what is asked ----------------------------------------------------------------------------


def test_every_question_has_a_limit_and_changes_nothing(postgres: Postgres) -> None:
    postgres.empty = {}
    look()
    assert {database for database, _ in postgres.asked} == {"postgres", "shop"}
    for _, query in postgres.asked:
        assert query.lstrip().startswith("SET statement_timeout = '")
        assert "default_transaction_read_only = on" in query


def test_all_well_is_one_line(postgres: Postgres) -> None:
    assert postgres.tables
    found = look()
    assert found["problems"] == []
    assert on_screen(found) == ["PostgreSQL 17.6: shop 1.0 GiB; transaction ids 9% used"]
    assert json.dumps(found)


def test_server_without_a_database_of_an_app_is_not_asked(postgres: Postgres, root: Path) -> None:
    path = root / "etc/bedstone/backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "databases": []}))
    assert postgres_health.gather(NOW) is None
    path.unlink()
    assert postgres_health.gather(NOW) is None
    assert postgres.asked == []
    assert list(shown_database.lines(None, Paint(on=False))) == []
    assert shown_database.problems(None) == []


def test_server_that_does_not_answer_is_the_problem(postgres: Postgres) -> None:
    postgres.away = {"postgres"}
    found = look()
    assert found["problems"] == ["PostgreSQL doesn't answer on this server. See."]
    assert on_screen(found) == ["PostgreSQL: PostgreSQL doesn't answer on this server."]
    assert set(found) == {*KEYS}


def test_database_that_takes_no_connections_hides_nothing_else(postgres: Postgres) -> None:
    postgres.away = {"shop"}
    found = look()
    assert found["tables"] == []
    assert found["problems"] == []
    assert set(found) == {*KEYS}


# --- what is judged ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "limit", "failsafe", "warned"),
    [
        (199 * MILLION, 200 * MILLION, 1600 * MILLION, False),
        (299 * MILLION, 200 * MILLION, 1600 * MILLION, False),
        (300 * MILLION, 200 * MILLION, 1600 * MILLION, True),
        # Autovacuum set to begin late: the failsafe comes first.
        (1599 * MILLION, 1500 * MILLION, 1600 * MILLION, False),
        (1600 * MILLION, 1500 * MILLION, 1600 * MILLION, True),
        # The failsafe's least value is 105 % of autovacuum's limit.
        (205 * MILLION, 200 * MILLION, 0, False),
        (210 * MILLION, 200 * MILLION, 0, True),
        (2_146 * MILLION, 2_000 * MILLION, 2_100 * MILLION, True),
    ],
)
@pytest.mark.parametrize("kind", ["xid", "mxid"])
def test_age_is_a_problem_where_autovacuum_does_not_get_through(
    postgres: Postgres,
    kind: str,
    age: int,
    limit: int,
    failsafe: int,
    warned: bool,  # noqa: FBT001
) -> None:
    for database in postgres.cluster["databases"]:
        database["xid_age"] = database["mxid_age"] = 0
    postgres.cluster |= {f"{kind}_limit": limit, f"{kind}_failsafe": failsafe}
    postgres.database("shop")[f"{kind}_age"] = age
    found = look()["problems"]
    assert bool(found) == warned
    if warned:
        what = "transactions" if kind == "xid" else "multixacts"
        assert f"shop is {age // MILLION} million {what} old" in found[0]
        assert "vacuumdb --freeze --jobs=2 shop`" in found[0]


def test_what_holds_freezing_back_is_named(postgres: Postgres) -> None:
    postgres.database("template0")["xid_age"] = 900 * MILLION
    postgres.cluster |= {"prepared": 2, "inactive_slots": 1}
    assert "2 prepared transactions (pg_prepared_xacts) and 1 unused replication slots" in problem()
    assert on_screen()[0].endswith("transaction ids 42% used")


def test_damaged_page_comes_first(postgres: Postgres) -> None:
    postgres.database("shop")["checksum_failures"] = 3
    postgres.cluster["shared_checksum_failures"] = 1
    postgres.cluster["autovacuum"] = False
    first, second, third = look()["problems"]
    assert first.startswith("PAGES ON THE DISK ARE DAMAGED: 3 checksum failures in shop.")
    assert "1 checksum failures in the shared catalogues" in second
    assert "autovacuum (or track_counts, which it needs) is off" in third
    assert look()["checksums"] == {"on": True, "failures": 4}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dead": 400_000}, None),
        ({"dead": 400_101}, "doesn't keep up with public.orders (shop): 400101 dead rows (29 %)"),
        ({"dead": 500_000, "vacuumed_seconds": None}, "never, as far as the statistics go back"),
        ({"dead": 500_000, "vacuumed_seconds": 600}, None),
        ({"dead": 500_000, "autovacuum": False}, "It is switched off for this table."),
        # Small tables don't matter.
        ({"rows": 10, "dead": 9_999, "dead_limit": 52}, None),
        ({"changed": 300_000}, "statistics of public.orders (shop) are old: 300000 rows changed"),
        ({"changed": 300_000, "analyzed_seconds": 60}, None),
        ({"dead": 500_000, "changed": 500_000}, "doesn't keep up"),
    ],
)
def test_table_that_autovacuum_does_not_keep_up_with(
    postgres: Postgres, changes: dict[str, Any], said: str | None
) -> None:
    postgres.tables[0] |= changes
    if said is None:
        assert look()["problems"] == []
    else:
        assert said in problem()
        assert "--table=public.orders shop`" in problem()


def test_emptiness_is_told_where_pgstattuple_is_installed(postgres: Postgres) -> None:
    assert look()["tables"][0]["empty_percent"] is None
    postgres.empty = {"public.orders": 63.4}
    assert "public.orders (shop), 300.0 MiB, is 63 % empty or dead" in problem()


def test_transaction_that_was_left_open_is_told_with_its_session(postgres: Postgres) -> None:
    session = {"pid": 4711, "database": "shop", "user": "shop_app", "program": "shell"}
    postgres.cluster["idle"] = [{**session, "seconds": 7300}, {**session, "seconds": 800}]
    said = problem()
    assert "shop_app in shop (process 4711, shell) has left a transaction open for 2 hours" in said
    assert "pg_terminate_backend(4711)" in said
    assert len(look()["idle_in_transaction"]) == 2


# --- growth -----------------------------------------------------------------------------------


@pytest.fixture
def shrinking(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the disk have lost so many GiB a day, with 100 GiB free now."""
    assert postgres.tables

    def lose(each_day: float) -> None:
        with ledger.opened() as connection:
            for day in range(10):
                free = int((100 + day * each_day) * GIB)
                size = int((20 - day) * GIB)
                moment = NOW - timedelta(days=day)
                ledger_growth.record(connection, moment, {"shop": size}, {"/var": free})
        monkeypatch.setattr(growth, "free", lambda _: {"/var": 100 * GIB})

    return lose


def test_disk_that_will_be_full_soon_is_told(
    postgres: Postgres, shrinking: Callable[[float], None]
) -> None:
    shrinking(5)
    said = problem()
    assert said.startswith("/var will be full in about 20 days: 100.0 GiB are free, 5.0 GiB less")
    assert on_screen() == [
        "PostgreSQL 17.6: shop 1.0 GiB, 1.0 GiB more each day; transaction ids 9% used",
        "/var: full in about 20 days, at the pace of the last two weeks",
    ]
    assert look()["disks"] == [
        {"path": "/var", "free_bytes": 100 * GIB, "bytes_per_day": -5 * GIB, "days_left": 20}
    ]
    assert postgres.asked


def test_disk_that_lasts_is_no_problem(shrinking: Callable[[float], None]) -> None:
    shrinking(1)
    found = look()
    assert found["problems"] == []
    assert on_screen(found)[1:] == [
        "/var: full in about 100 days, at the pace of the last two weeks"
    ]
    assert "more each day" in on_screen(found)[0]


def test_disk_that_lasts_for_years_is_not_mentioned(shrinking: Callable[[float], None]) -> None:
    shrinking(0.1)
    assert len(on_screen()) == 1


def test_ledger_that_cannot_be_read_hides_the_growth_alone(postgres: Postgres, root: Path) -> None:
    assert postgres.tables
    (root / "var/lib/bedstone").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/bedstone/ledger.sqlite").write_text("not a database" * 100)
    found = look()
    assert found["problems"] == []
    assert found["databases"][1] == {"name": "shop", "bytes": GIB, "bytes_per_day": None}


# --- in the picture ---------------------------------------------------------------------------


def test_server_of_databases_alone_shows_them() -> None:
    picture: dict[str, Any] = {"apps": [], "disks": [], "problems": [], "database": None}
    assert screen.render(picture, Paint(on=False)) == "No app is declared on this server."
    picture["database"] = {
        "version": None, "error": "It is away.", "databases": [], "disks": [], "problems": [],
    }  # fmt: skip
    assert screen.render(picture, Paint(on=False)).endswith("PostgreSQL: It is away.")


def test_every_key_is_described(postgres: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert postgres.tables
    with pytest.raises(SystemExit):
        main.main(["status", "--help"])
    described = capsys.readouterr().out
    for key in look():
        assert f'"{key}"' in described


def test_many_databases_are_counted(postgres: Postgres) -> None:
    for name in ("a", "b", "c", "d"):
        postgres.cluster["databases"].append({**postgres.database("shop"), "name": name})
    assert on_screen()[0].startswith("PostgreSQL 17.6: 5 databases, 5.0 GiB;")
