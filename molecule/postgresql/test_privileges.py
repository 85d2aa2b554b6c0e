"""What the roles of an app may do in its database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

Query = Callable[..., Any]
Migrate = Callable[[str], Any]
REFUSALS = ("permission denied", "must be", "must have admin option")


@pytest.fixture(autouse=True)
def table(migrate: Migrate) -> Iterator[None]:
    """A table that a migration made, with a row."""
    migrate("DROP TABLE IF EXISTS request; CREATE TABLE request (id serial PRIMARY KEY, text text)")
    migrate("INSERT INTO request (text) VALUES ('first')")
    yield
    migrate("DROP TABLE request")


def test_table_of_a_later_migration_is_usable_at_once(query: Query, migrate: Migrate) -> None:
    migrate("CREATE TABLE later (id int GENERATED ALWAYS AS IDENTITY, text text)")
    try:
        written = query("INSERT INTO later (text) VALUES ('a'); UPDATE later SET text = 'b'")
        assert written.rc == 0, written.stderr
        assert query("SELECT text FROM later").stdout == "b\n"
        assert query("DELETE FROM later").rc == 0
    finally:
        migrate("DROP TABLE later")


def test_schema_of_a_later_migration_is_usable_at_once(query: Query, migrate: Migrate) -> None:
    migrate("CREATE SCHEMA later; CREATE TABLE later.t (id serial)")
    try:
        assert query("INSERT INTO later.t DEFAULT VALUES").rc == 0
    finally:
        migrate("DROP SCHEMA later CASCADE")


def test_what_a_migration_makes_belongs_to_the_owner(migrate: Migrate) -> None:
    asked = (
        "SELECT session_user, current_user, tableowner FROM pg_tables WHERE tablename = 'request'"
    )
    assert migrate(asked).stdout == "payments_migrate|payments_owner|payments_owner\n"


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION hstore",
        "ALTER TABLE request ADD COLUMN mine int",
        "ALTER TABLE request DISABLE TRIGGER ALL",
        "CREATE INDEX ON request (text)",
        "DROP TABLE request",
        "TRUNCATE request",
        "DROP SCHEMA public CASCADE",
        "DROP DATABASE shop",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "ALTER ROLE payments_migrate PASSWORD 'mine'",
        "GRANT payments_owner TO payments_app",
        "SET ROLE payments_owner",
        "SET ROLE payments_migrate",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER SYSTEM SET fsync = off",
        "COPY request TO PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_app_role_can_not(query: Query, sql: str) -> None:
    ended = query(sql)
    assert ended.rc != 0
    assert any(word in ended.stderr for word in REFUSALS), ended.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE ROLE mine",
        "DROP DATABASE shop",
        "ALTER SYSTEM SET fsync = off",
        "SET ROLE shop_owner",
    ],
)
def test_migration_role_can_not(query: Query, sql: str) -> None:
    ended = query(sql, user="payments_migrate")
    assert any(word in ended.stderr for word in REFUSALS), ended.stderr


def test_app_role_may_use_temporary_tables(query: Query) -> None:
    assert query("CREATE TEMPORARY TABLE t AS SELECT 7 AS n; SELECT n FROM t").stdout == "7\n"


def test_right_that_a_migration_takes_away_is_gone(query: Query, migrate: Migrate) -> None:
    migrate("REVOKE UPDATE, DELETE ON request FROM payments_app")
    assert query("INSERT INTO request (text) VALUES ('second')").rc == 0
    assert "permission denied" in query("DELETE FROM request").stderr


def test_declared_extension_is_there(query: Query) -> None:
    assert query("SELECT similarity('bedstone', 'bedstone')").stdout == "1\n"


def test_sessions_begin_with_the_declared_limits(query: Query) -> None:
    assert query("SHOW statement_timeout").stdout == "5min\n"
    assert query("SHOW idle_in_transaction_session_timeout").stdout == "1min\n"
    assert query("SHOW lock_timeout", user="payments_migrate").stdout == "5s\n"


def test_migrations_wait_for_locks_as_long_as_declared_and_the_app_as_ever(query: Query) -> None:
    of_shop = {"dbname": "shop", "user": "shop_migrate"}
    assert query("SHOW lock_timeout", **of_shop).stdout == "3s\n"
    assert query("SHOW lock_timeout").stdout == "0\n"
    assert query("SHOW lock_timeout", dbname="shop", user="shop_app_00000001").stdout == "0\n"


def test_login_of_its_own_begins_as_the_app_role_with_its_limits(query: Query) -> None:
    asked = "SELECT session_user, current_user, current_setting('statement_timeout')"
    said = query(asked, dbname="shop", user="shop_app_00000001").stdout
    assert said == "shop_app_00000001|shop_app|5min\n"
