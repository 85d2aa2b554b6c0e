"""What is changed for a declaration, tried on a real server: applied, and then nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bedstone_postgresql import (
    connection_limit,
    earlier_logins,
    empty_state,
    fresh_contents,
    plan,
    quote_text,
    script,
    strangers,
    undeclared,
)
from bedstone_postgresql_declared import Declared, declared
from bedstone_postgresql_sql import read_script

from tests.unit.fixtures.cluster import Cluster


def entry(database: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": database,
        "owner": f"{database}_owner",
        "migrate_role": f"{database}_migrate",
        "migrate_password": f"{database}-migrate's \\password",
        "app_role": f"{database}_app",
        "app_password": f"{database}-app-password",
        "extensions": [],
        **changes,
    }


def wanted(*databases: dict[str, Any], **more: Any) -> Declared:
    return declared({"databases": list(databases), **more})


def read(cluster: Cluster, declaration: Declared) -> dict[str, Any]:
    printed = cluster.psql(read_script([database.name for database in declaration.databases]))
    answers = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    contents = {answer["database"]: answer for answer in answers[1:]}
    return {**answers[0], "contents": contents}


def converge(cluster: Cluster, declaration: Declared) -> list[str]:
    """Apply the declaration, check that nothing is left to do, return what was done."""
    changes = plan(declaration, read(cluster, declaration))
    cluster.psql(script(changes))
    left = plan(declaration, read(cluster, declaration))
    assert [change.before for change in left] == []
    return [change.after for change in changes]


PAY = wanted(entry("pay"), app_settings={"statement_timeout": "5min"})


def remove_everything(cluster: Cluster) -> None:
    cluster.psql("DROP DATABASE IF EXISTS pay WITH (FORCE);")
    roles = cluster.psql("SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|postgres$)'")
    for role in roles.split():
        cluster.psql(f'DROP OWNED BY "{role}" CASCADE; DROP ROLE "{role}";')


@pytest.fixture(scope="module")
def _kept(cluster: Cluster) -> Iterator[None]:
    """Let the tests share a database: to make one for each takes most of the time."""
    yield
    remove_everything(cluster)


@pytest.fixture
def pay(cluster: Cluster, _kept: None) -> Declared:
    """Give a converged database without tables."""
    converge(cluster, PAY)
    cluster.psql("DROP TABLE IF EXISTS audit, by_hand, stray", database="pay")
    return PAY


def test_bare_server_plan_is_what_is_done_there(cluster: Cluster, pay: Declared) -> None:
    """The plan made without a server (check mode on a bare host) is the real one."""
    predicted = [change.after for change in plan(pay, empty_state())]
    assert "database pay: owned by pay_owner" in predicted
    remove_everything(cluster)
    assert converge(cluster, pay) == predicted


def test_fresh_contents_are_those_of_a_fresh_database(cluster: Cluster) -> None:
    cluster.psql("CREATE DATABASE fresh TEMPLATE template0")
    try:
        contents = read(cluster, wanted(entry("fresh")))["contents"]["fresh"]
    finally:
        cluster.psql("DROP DATABASE fresh")
    ours = fresh_contents()
    assert [acl for acl in contents["public_acl"] if acl[0] == ""] == ours["public_acl"]
    for key in ("schemas", "public_owner", "default_acl", "owned"):
        assert contents[key] == ours[key], key


# Changes made by hand, and the line that reports their correction.
DRIFT = {
    "app role may log in no more": ("ALTER ROLE pay_app NOLOGIN", "role pay_app: login"),
    "owner may log in": ("ALTER ROLE pay_owner LOGIN", "role pay_owner: nologin"),
    "app role is superuser": ("ALTER ROLE pay_app SUPERUSER", "role pay_app: nosuperuser"),
    "app role makes databases": ("ALTER ROLE pay_app CREATEDB", "role pay_app: nocreatedb"),
    "another password": (
        "ALTER ROLE pay_app PASSWORD 'guessed'",
        "role pay_app: the declared password",
    ),
    "no password": ("ALTER ROLE pay_app PASSWORD NULL", "role pay_app: the declared password"),
    "app role is in the owner": (
        "GRANT pay_owner TO pay_app",
        "role pay_app: no member of pay_owner",
    ),
    "app role reads all": (
        "GRANT pg_read_all_data TO pay_app",
        "role pay_app: no member of pg_read_all_data",
    ),
    "migration role is on its own": (
        "REVOKE pay_owner FROM pay_migrate",
        "role pay_migrate: member of pay_owner",
    ),
    "public may connect": (
        "GRANT CONNECT ON DATABASE pay TO PUBLIC",
        "database pay: PUBLIC has no CONNECT",
    ),
    "app role may make schemas": (
        "GRANT CREATE ON DATABASE pay TO pay_app",
        "database pay: pay_app has no CREATE",
    ),
    "app role may make tables": (
        "GRANT CREATE ON SCHEMA public TO pay_app",
        "schema public of pay: pay_app has no CREATE",
    ),
    "public uses the schema": (
        "GRANT ALL ON SCHEMA public TO PUBLIC",
        "schema public of pay: PUBLIC has no CREATE, USAGE",
    ),
    "database has another owner": (
        "ALTER DATABASE pay OWNER TO pay_app",
        "database pay: owned by pay_owner",
    ),
    "schema has another owner": (
        "ALTER SCHEMA public OWNER TO postgres",
        "schema public of pay: owned by pay_owner",
    ),
    "future tables are closed": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE pay_owner REVOKE UPDATE ON TABLES FROM pay_app",
        "database pay: tables that pay_owner makes: pay_app gets UPDATE",
    ),
    "future tables can be emptied": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE pay_owner GRANT TRUNCATE ON TABLES TO pay_app",
        "database pay: tables that pay_owner makes: pay_app gets no TRUNCATE",
    ),
    "sessions act as themselves": (
        "ALTER ROLE pay_migrate IN DATABASE pay RESET role",
        "role pay_migrate in pay: role = pay_owner",
    ),
    "another timeout": (
        "ALTER ROLE pay_app IN DATABASE pay SET statement_timeout = 0",
        "role pay_app in pay: statement_timeout = 5min",
    ),
    "a setting of its own": (
        "ALTER ROLE pay_app IN DATABASE pay SET search_path = elsewhere",
        "role pay_app in pay: search_path unset",
    ),
    "a table under the migration role's own name": (
        "CREATE TABLE stray (id int); ALTER TABLE stray OWNER TO pay_migrate",
        "database pay: 1 objects owned by pay_owner",
    ),
}


@pytest.mark.parametrize(("by_hand", "put_right"), DRIFT.values(), ids=DRIFT)
def test_drift_is_put_right(cluster: Cluster, pay: Declared, by_hand: str, put_right: str) -> None:
    cluster.psql(by_hand, database="pay")
    assert put_right in converge(cluster, pay)


def test_nothing_to_change_on_the_second_run(cluster: Cluster, pay: Declared) -> None:
    assert plan(pay, read(cluster, pay)) == []


def test_right_that_a_migration_took_away_stays_away(cluster: Cluster, pay: Declared) -> None:
    cluster.psql(
        "SET ROLE pay_owner; CREATE TABLE audit (id int);"
        "REVOKE UPDATE, DELETE ON audit FROM pay_app",
        database="pay",
    )
    assert converge(cluster, pay) == []
    allowed = "SELECT has_table_privilege('pay_app', 'audit', 'INSERT'), "
    allowed += "has_table_privilege('pay_app', 'audit', 'DELETE')"
    assert cluster.psql(allowed, database="pay").strip() == "t|f"


def test_tables_of_a_database_that_was_there_before_are_opened(cluster: Cluster) -> None:
    remove_everything(cluster)
    cluster.psql("CREATE ROLE pay_owner")
    cluster.psql("CREATE DATABASE pay OWNER pay_owner TEMPLATE template0")
    cluster.psql(
        'SET ROLE pay_owner; CREATE SCHEMA "odd name"; CREATE TABLE "odd name".t (id serial)',
        database="pay",
    )
    try:
        converge(cluster, PAY)
        asked = """SELECT has_table_privilege('pay_app', '"odd name".t', 'INSERT'),"""
        asked += """ has_sequence_privilege('pay_app', '"odd name".t_id_seq', 'USAGE')"""
        assert cluster.psql(asked, database="pay").strip() == "t|t"
    finally:
        remove_everything(cluster)


@pytest.mark.usefixtures("pay")
def test_changed_password_is_the_only_change(cluster: Cluster) -> None:
    rotated = wanted(
        entry("pay", app_password="rotated"), app_settings={"statement_timeout": "5min"}
    )
    assert converge(cluster, rotated) == ["role pay_app: the declared password"]


@pytest.mark.usefixtures("pay")
def test_lock_timeout_is_the_migration_role_s_alone_and_can_be_taken_back(cluster: Cluster) -> None:
    settings = {"statement_timeout": "5min"}
    patient = wanted(entry("pay", lock_timeout_seconds=7), app_settings=settings)
    assert converge(cluster, patient) == ["role pay_migrate in pay: lock_timeout = 7s"]
    asked = "SELECT setrole::regrole || ': ' || array_to_string(setconfig, ' ') "
    asked += "FROM pg_db_role_setting WHERE array_to_string(setconfig, ' ') LIKE '%lock_timeout%'"
    assert cluster.psql(asked).strip() == "pay_migrate: role=pay_owner lock_timeout=7s"
    # A database's own says more than what holds for all of them.
    general = {"app_settings": settings, "migrate_settings": {"lock_timeout": "1min"}}
    assert converge(cluster, wanted(entry("pay", lock_timeout_seconds=7), **general)) == []
    assert converge(cluster, wanted(entry("pay"), **general)) == [
        "role pay_migrate in pay: lock_timeout = 1min"
    ]
    assert converge(cluster, PAY) == ["role pay_migrate in pay: lock_timeout unset"]


def test_lock_timeout_that_can_not_be_is_refused() -> None:
    with pytest.raises(ValueError, match="lock_timeout_seconds of pay is -1"):
        wanted(entry("pay", lock_timeout_seconds=-1))


@pytest.mark.usefixtures("pay")
def test_local_role_gets_its_groups_and_may_connect(cluster: Cluster) -> None:
    declaration = wanted(
        entry("pay"),
        app_settings={"statement_timeout": "5min"},
        local_roles=[{"name": "monitor", "member_of": ["pg_monitor"]}],
    )
    assert converge(cluster, declaration) == [
        "role monitor: login",
        "role monitor: member of pg_monitor",
        "database pay: monitor has CONNECT",
    ]
    cluster.psql("DROP OWNED BY monitor; DROP ROLE monitor", database="pay")


def test_objects_of_strangers_are_reported(cluster: Cluster, pay: Declared) -> None:
    cluster.psql("CREATE TABLE by_hand (id int)", database="pay")
    (sentence,) = strangers(pay, read(cluster, pay))
    assert "1 objects of role postgres" in sentence
    assert "OWNER TO pay_owner" in sentence


@pytest.mark.usefixtures("pay")
def test_database_that_is_not_declared_is_reported_and_kept(cluster: Cluster) -> None:
    nothing = wanted()
    state = read(cluster, nothing)
    assert undeclared(nothing, state) == ["pay"]
    assert plan(nothing, state) == []


@pytest.mark.usefixtures("pay")
def test_extension_that_the_server_does_not_have_is_named_before_any_change(
    cluster: Cluster,
) -> None:
    declaration = wanted(entry("pay", extensions=["no_such_thing"]))
    with pytest.raises(ValueError, match="pay wants the extension no_such_thing"):
        plan(declaration, read(cluster, declaration))


def test_no_plain_password_is_in_a_statement_or_a_line_of_the_diff() -> None:
    declaration = wanted(entry("pay"))
    changes = plan(declaration, empty_state())
    text = script(changes) + "".join(change.before + change.after for change in changes)
    assert "password" not in text.replace("a password", "").replace(" PASSWORD ", "")
    assert "SCRAM" not in "".join(change.after for change in changes)
    assert "-password" not in repr(declaration)


@pytest.mark.parametrize("text", ["plain", "it's", "back\\slash", "both \\' of them", ""])
def test_quoted_text_comes_back_as_it_was(cluster: Cluster, text: str) -> None:
    for strings in ("on", "off"):
        sql = f"SET escape_string_warning = off; SET standard_conforming_strings = {strings};"
        assert cluster.psql(f"{sql} SELECT {quote_text(text)}") == f"{text}\n"


LIMITS = {"app_settings": {"statement_timeout": "5min"}}
SESSION = "SELECT session_user, current_user, current_setting('statement_timeout')"


@pytest.fixture
def logins(cluster: Cluster) -> Iterator[Declared]:
    """Give a converged database whose app has a login of its own."""
    remove_everything(cluster)
    declaration = wanted(entry("pay", app_login="pay_app_00000001"), **LIMITS)
    converge(cluster, declaration)
    yield declaration
    remove_everything(cluster)


def session(cluster: Cluster, login: str, database: str = "pay") -> str:
    ended = cluster.run(
        "psql", "-XAtq", "-h", str(cluster.directory), "-U", login, "-d", database, "-c", SESSION
    )
    return ended.stdout.strip() or ended.stderr


@pytest.mark.usefixtures("logins")
def test_session_of_a_login_is_the_app_role_s(cluster: Cluster) -> None:
    assert session(cluster, "pay_app_00000001") == "pay_app_00000001|pay_app|5min"
    assert "not permitted to log in" in session(cluster, "pay_app")
    # As a restore does: the settings are the role's, not the database's.
    cluster.psql("ALTER DATABASE pay RENAME TO old; CREATE DATABASE pay OWNER pay_owner;")
    assert session(cluster, "pay_app_00000001") == "pay_app_00000001|pay_app|5min"
    cluster.psql("DROP DATABASE old;")


@pytest.mark.usefixtures("logins")
def test_login_of_another_password_lets_the_earlier_one_in(cluster: Cluster) -> None:
    changed = wanted(entry("pay", app_login="pay_app_00000002", app_password="other"), **LIMITS)
    assert converge(cluster, changed) == [
        "role pay_app_00000002: login, a password",
        "role pay_app: logs in as pay_app_00000002",
        "role pay_app_00000002: member of pay_app",
        "role pay_app_00000002: role = pay_app",
        "role pay_app_00000002: statement_timeout = 5min",
    ]
    for login in ("pay_app_00000001", "pay_app_00000002"):
        assert session(cluster, login) == f"{login}|pay_app|5min"
    (sentence,) = earlier_logins(changed, read(cluster, changed))
    assert "DROP ROLE pay_app_00000001;" in sentence


def test_app_role_that_logs_in_itself_keeps_its_password(cluster: Cluster, pay: Declared) -> None:
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'pay_app'"
    before = cluster.psql(stored)
    changed = wanted(entry("pay", app_login="pay_app_00000001", app_password="other"), **LIMITS)
    try:
        of_role = [line for line in converge(cluster, changed) if "role pay_app:" in line]
        assert of_role == ["role pay_app: logs in as pay_app_00000001"]
        assert cluster.psql(stored) == before
        assert session(cluster, "pay_app") == "pay_app|pay_app|5min"
        (sentence,) = earlier_logins(changed, read(cluster, changed))
        assert "ALTER ROLE pay_app NOLOGIN" in sentence
        # Of the program, once nothing uses it.
        cluster.psql("ALTER ROLE pay_app NOLOGIN PASSWORD NULL")
        assert converge(cluster, changed) == []
        assert earlier_logins(changed, read(cluster, changed)) == []
        # Without a login of its own, the role is it again.
        assert "role pay_app: login" in converge(cluster, pay)
    finally:
        remove_everything(cluster)
        converge(cluster, pay)


LOGIN_DRIFT = {
    "another role": ("ALTER ROLE pay_app_00000001 SET role = none", "role = pay_app"),
    "no timeout": (
        "ALTER ROLE pay_app_00000001 RESET statement_timeout",
        "statement_timeout = 5min",
    ),
    "a timeout of the database": (
        "ALTER ROLE pay_app_00000001 IN DATABASE pay SET statement_timeout = 0",
        "statement_timeout unset",
    ),
    "further groups": ("GRANT pay_owner TO pay_app_00000001", "no member of pay_owner"),
    "another comment": ("COMMENT ON ROLE pay_app IS 'x'", "logs in as pay_app_00000001"),
    "superuser": ("ALTER ROLE pay_app_00000001 SUPERUSER", "nosuperuser"),
    "a table": (
        "CREATE TABLE stray (id int); ALTER TABLE stray OWNER TO pay_app_00000001",
        "1 objects owned by pay_owner",
    ),
}


@pytest.mark.parametrize(("by_hand", "put_right"), LOGIN_DRIFT.values(), ids=LOGIN_DRIFT)
def test_drift_of_a_login_is_put_right(
    cluster: Cluster, logins: Declared, by_hand: str, put_right: str
) -> None:
    cluster.psql(by_hand, database="pay")
    (line,) = converge(cluster, logins)
    assert put_right in line


def test_roles_come_through_a_dump_of_them(cluster: Cluster, logins: Declared) -> None:
    """An upgrade moves roles by pg_dumpall: the login is made before what it acts as is set."""
    dump = cluster.run("pg_dumpall", "--roles-only", "-h", str(cluster.directory), "-U", "postgres")
    assert dump.returncode == 0, dump.stderr
    cluster.psql("DROP DATABASE pay WITH (FORCE);")
    for role in ("pay_app_00000001", "pay_app", "pay_migrate", "pay_owner"):
        cluster.psql(f"DROP ROLE {role}")
    cluster.psql(dump.stdout.replace("CREATE ROLE postgres;", ""))
    converge(cluster, logins)
    assert session(cluster, "pay_app_00000001") == "pay_app_00000001|pay_app|5min"


BAD = {
    "login": ({"app_login": "pay_app"}, "the role pay_app is declared twice"),
    "name": ({"name": "Pay"}, "'Pay' can't be the name of a database"),
    "dash": ({"owner": "pay-owner"}, "'pay-owner' can't be the name of a role"),
    "long": ({"app_role": "a" * 64}, "at most 63"),
    "postgres": ({"name": "postgres"}, "PostgreSQL's own name"),
    "pg_": ({"owner": "pg_monitor"}, "PostgreSQL's own name"),
    "same role": ({"app_role": "pay_owner"}, "the role pay_owner is declared twice"),
    "no password": ({"app_password": ""}, "password of role pay_app is empty"),
    "password": ({"migrate_password": "grün"}, "password of role pay_migrate"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_unusable_declaration_is_refused_in_words(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wanted(entry("pay", **changes))


def test_database_declared_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the database pay is declared twice"):
        wanted(entry("pay"), entry("pay"))


@pytest.mark.parametrize("name", ["role", "x; DROP TABLE y", "UPPER"])
def test_unusable_setting_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can't be set for a role"):
        wanted(entry("pay"), app_settings={name: "1"})


def test_one_app_leaves_connections_to_the_others(cluster: Cluster, pay: Declared) -> None:
    def limits() -> list[str]:
        sql = "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname ~ '^pay_' ORDER BY 1"
        return cluster.psql(sql).split()

    assert limits() == ["pay_app|90", "pay_migrate|10", "pay_owner|-1"]
    settings = PAY.app_settings
    fewer = wanted(entry("pay", connections=7), app_settings=settings)
    assert converge(cluster, fewer) == [
        "role pay_migrate: at most 7 connections",
        "role pay_app: at most 7 connections",
    ]
    state = read(cluster, pay)
    for apps, most in ((1, 90), (2, 60), (3, 45), (8, 20)):
        several = wanted(*(entry(f"app{number}") for number in range(apps)))
        assert {connection_limit(several, app, state) for app in several.databases} == {most}
    too_many = wanted(entry("pay", connections=500))
    assert connection_limit(too_many, too_many.databases[0], state) == 90
    with pytest.raises(ValueError, match="connections of pay is 0"):
        wanted(entry("pay", connections=0))
    converge(cluster, pay)


def test_settings_of_one_database_win(cluster: Cluster, pay: Declared) -> None:
    own = {"statement_timeout": "30min", "temp_file_limit": "5GB"}
    assert converge(cluster, wanted(entry("pay", settings=own), app_settings=pay.app_settings)) == [
        "role pay_app in pay: statement_timeout = 30min",
        "role pay_app in pay: temp_file_limit = 5GB",
    ]
    # Only a superuser sets this one, so the app can't take it back.
    refused = cluster.run(
        "psql", "-XAtq", "-h", str(cluster.directory), "-U", "pay_app", "-d", "pay", "-c",
        "SHOW temp_file_limit", "-c", "SET temp_file_limit = -1",
    )  # fmt: skip
    assert refused.stdout.strip() == "5GB"
    assert "permission denied" in refused.stderr
    with pytest.raises(ValueError, match="'role' can't be set"):
        wanted(entry("pay", settings={"role": "postgres"}))
    converge(cluster, pay)
