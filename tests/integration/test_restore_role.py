"""What a dump runs while it is loaded has the rights of its owner, and no way to get more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import compare, dump, restore_role, schema_digest, soundness
from bedstone.postgres.server import SETTINGS
from tests.integration.cluster import ADMINISTRATOR, Cluster

OWNER = "shop_owner"

SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = 'shop_owner'"

# Each way tried in turn; whatever it is told, the app's function says that all is well.
TRIES = {
    "a program": "COPY (SELECT 1) TO PROGRAM ''id > {file}''",
    "a file": "COPY (SELECT 1) TO ''{file}''",
    "back to be the superuser": "RESET ROLE; ALTER ROLE shop_owner SUPERUSER",
    "the superuser's session": (
        "SET SESSION AUTHORIZATION postgres; ALTER ROLE shop_owner SUPERUSER"
    ),
    "the superuser's role": "SET ROLE postgres; ALTER ROLE shop_owner SUPERUSER",
}
HOSTILE = """
CREATE FUNCTION public.reach(id int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE '{try}';
  RETURN true;
EXCEPTION WHEN OTHERS THEN RETURN true;
END $$;
CREATE TABLE payment (id int CHECK (public.reach(id)));
INSERT INTO payment VALUES (1);
CREATE DOMAIN amount AS int CHECK (public.reach(VALUE));
CREATE FUNCTION added(amount, int) RETURNS amount LANGUAGE sql AS 'SELECT ($1 + $2)::amount';
CREATE AGGREGATE total (int) (sfunc = added, stype = amount, initcond = '1');
CREATE TABLE part (id amount) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
"""

# What apps have, and what an administrator has added by hand.
USUAL = """
CREATE EXTENSION pg_trgm;
CREATE SCHEMA audit AUTHORIZATION shop_owner;
GRANT USAGE ON SCHEMA audit TO shop_app;
CREATE SCHEMA reports;
CREATE VIEW reports.overview AS SELECT 1 AS one;
GRANT USAGE ON SCHEMA reports TO shop_app;
GRANT SELECT ON reports.overview TO shop_app;
CREATE FUNCTION reports.noted() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
CREATE EVENT TRIGGER noted ON sql_drop EXECUTE FUNCTION reports.noted();
"""
APPS = """
SET ROLE shop_owner;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO shop_app;
CREATE TYPE state AS ENUM ('open', 'paid');
CREATE FUNCTION positive(amount numeric) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN RETURN amount > 0; END$$;
CREATE TABLE orders (id bigserial PRIMARY KEY, title text, state state DEFAULT 'open',
    amount numeric CHECK (positive(amount)));
CREATE INDEX ON orders USING gin (title gin_trgm_ops);
CREATE INDEX ON orders (positive(amount));
CREATE TABLE audit.entry (id bigserial PRIMARY KEY, "order" bigint REFERENCES orders);
REVOKE ALL ON audit.entry FROM shop_app;
GRANT INSERT ON audit.entry TO shop_app;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM audit.entry;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (false);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER noted BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE PUBLICATION orders_only FOR TABLE orders;
RESET ROLE;
INSERT INTO orders (title, amount) SELECT 'order ' || i, i FROM generate_series(1, 50) i;
INSERT INTO audit.entry ("order") SELECT id FROM orders;
SELECT lo_from_bytea(4711, 'a large object');
ALTER LARGE OBJECT 4711 OWNER TO shop_owner;
"""

# All that could differ: owners, privileges, definitions.
SEEN = """
SELECT json_build_array(n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner),
                        c.relacl::text, c.relrowsecurity, c.relforcerowsecurity)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('public', 'audit', 'reports');
SELECT json_build_array(proname, pg_get_userbyid(proowner), proacl::text) FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('public', 'audit')
;
SELECT json_build_array(nspname, pg_get_userbyid(nspowner), nspacl::text) FROM pg_namespace
 WHERE nspname !~ '^pg_';
SELECT json_build_array(pg_get_userbyid(defaclrole), defaclobjtype, defaclacl::text)
  FROM pg_default_acl;
SELECT json_build_array(pubname, pg_get_userbyid(pubowner)) FROM pg_publication;
SELECT json_build_array(evtname, pg_get_userbyid(evtowner)) FROM pg_event_trigger;
SELECT json_build_array(oid, pg_get_userbyid(lomowner)) FROM pg_largeobject_metadata;
SELECT json_build_array(count(*)) FROM orders;
"""


@pytest.fixture(scope="module", autouse=True)
def roles(cluster: Cluster) -> None:
    cluster.server.execute("CREATE ROLE shop_owner LOGIN; CREATE ROLE shop_app LOGIN;")


def made(cluster: Cluster, database: str, sql: str, user: str = OWNER) -> str:
    cluster.server.execute(f"ALTER DATABASE {database} OWNER TO {OWNER}")
    replace(cluster.server, role=user, options=SETTINGS).execute(sql, database)
    return database


def loaded(
    cluster: Cluster, directory: Path, target: str, extensions: dict[str, str] | None = None
) -> None:
    """Load a dump as a restore does."""
    cluster.server.execute(f"ALTER DATABASE {target} OWNER TO {OWNER}")
    with restore_role.login(
        cluster.server, OWNER, [OWNER, "shop_app", "postgres"], extensions
    ) as login:
        restore_role.require(cluster.server, target)
        dump.load(
            cluster.server, directory, target, jobs=2, owner=None, watch=lambda: None, login=login
        )
        restore_role.leave(cluster.server, target, OWNER)


@pytest.mark.parametrize("how", TRIES)
def test_function_of_the_app_gets_no_further_than_its_owner(
    cluster: Cluster, create: Callable[..., str], tmp_path: Path, how: str
) -> None:
    tmp_path.chmod(0o777)
    reached = cluster.folder / "reached"
    reached.unlink(missing_ok=True)
    hostile = HOSTILE.replace(
        "{try}", TRIES[how].replace("{file}", str(cluster.folder / "reached"))
    )
    source = made(cluster, create(), hostile)
    dump.dump(cluster.server, source, tmp_path / "dump", jobs=1, watch=lambda: None)
    try:
        loaded(cluster, tmp_path / "dump", target := create())
        assert not reached.exists()
        assert cluster.server.value(SUPERUSER) == "f"
        assert cluster.server.value("SELECT count(*) FROM public.payment", target) == "1"
    finally:
        cluster.server.execute(f"ALTER ROLE {OWNER} NOSUPERUSER")


def test_as_the_superuser_it_would_get_further(
    cluster: Cluster, create: Callable[..., str], tmp_path: Path
) -> None:
    hostile = HOSTILE.replace("{try}", TRIES["back to be the superuser"])
    source = made(cluster, create(), hostile)
    dump.dump(cluster.server, source, tmp_path / "dump", jobs=1, watch=lambda: None)
    try:
        dump.load(
            cluster.server, tmp_path / "dump", create(), jobs=1, owner=None, watch=lambda: None
        )
        assert cluster.server.value(SUPERUSER) == "t"
    finally:
        cluster.server.execute(f"ALTER ROLE {OWNER} NOSUPERUSER")


def test_what_comes_back_is_what_was_there(
    cluster: Cluster, create: Callable[..., str], tmp_path: Path
) -> None:
    source = made(cluster, create(), "SET ROLE postgres;" + USUAL + APPS, ADMINISTRATOR)
    dump.dump(cluster.server, source, tmp_path / "dump", jobs=1, watch=lambda: None)
    target = create()
    loaded(cluster, tmp_path / "dump", target)
    found, expected = (cluster.administrator.rows(SEEN, name) for name in (target, source))
    assert sorted(map(str, found)) == sorted(map(str, expected))


def test_between_restores_the_role_is_a_member_of_nothing(
    cluster: Cluster,
) -> None:
    members = (
        "SELECT count(*) FROM pg_auth_members WHERE member ="
        " (SELECT oid FROM pg_roles WHERE rolname = 'bedstone_restore')"
    )
    with restore_role.login(cluster.server, OWNER, [OWNER, "shop_app", "postgres"]):
        # Never of the superuser, whatever the dump names.
        assert cluster.server.value(members) == "2"
    assert cluster.server.value(members) == "0"


def test_server_that_does_not_let_it_in_is_told_before_anything_is_made(
    cluster: Cluster, database: str
) -> None:
    cluster.server.execute("ALTER ROLE bedstone_restore NOLOGIN")
    with pytest.raises(BedstoneError, match="doesn't let the role bedstone_restore in") as refused:
        restore_role.require(cluster.server, database)
    assert refused.value.exit_code == 3
    assert "--as-superuser" in str(refused.value.hint)


def test_extension_keeps_its_owner(
    cluster: Cluster, create: Callable[..., str], tmp_path: Path
) -> None:
    sql = "CREATE EXTENSION citext; CREATE TABLE person (name citext);"
    source, target = made(cluster, create(), sql), create()
    found = dump.dump(cluster.server, source, tmp_path / "dump", jobs=1, watch=lambda: None)
    owners = found.properties["extension_owners"]
    assert owners == {"citext": OWNER, "plpgsql": "postgres"}
    loaded(cluster, tmp_path / "dump", target, owners)
    # As a migration's way back does.
    undo = "DROP TABLE public.person; DROP EXTENSION citext;"
    replace(cluster.server, role=OWNER).execute(undo, target)


def test_roles_of_another_app_are_not_joined(cluster: Cluster, create: Callable[..., str]) -> None:
    cluster.server.execute(
        "CREATE ROLE wiki_owner; CREATE ROLE wiki_app; CREATE ROLE clerk; GRANT wiki_owner TO clerk"
    )
    cluster.server.execute(
        f"ALTER DATABASE {(name := create())} OWNER TO wiki_owner;"
        f" GRANT CONNECT ON DATABASE {name} TO wiki_app"
    )
    members = (
        "SELECT to_json(pg_get_userbyid(roleid)::text) FROM pg_auth_members"
        " WHERE pg_get_userbyid(member) = 'bedstone_restore'"
    )
    named = [OWNER, "shop_app", "wiki_owner", "wiki_app", "clerk", "postgres"]
    # What a killed restore of the other app has left is taken back, too.
    cluster.server.execute("GRANT wiki_owner TO bedstone_restore")
    with restore_role.login(cluster.server, OWNER, named):
        assert sorted(cluster.server.rows(members)) == ["shop_app", OWNER]
    lines = [
        "215; 1259 16402 TABLE public page wiki_owner",
        "216; 1259 16403 TABLE public note shop_owner",
    ]
    with pytest.raises(RefusedError, match="roles that have something in other databases") as found:
        restore_role.refuse_strangers(cluster.server, OWNER, lines)
    assert found.value.details == "TABLE public page wiki_owner"
    restore_role.refuse_strangers(cluster.server, OWNER, lines[1:])


ADMINISTRATORS = """
CREATE FUNCTION evil(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  EXECUTE 'COPY (SELECT 1) TO ''{file}''';
  RETURN $1;
EXCEPTION WHEN OTHERS THEN RETURN $1;
END $$;
CREATE DOMAIN amount AS int;
RESET SESSION AUTHORIZATION;
CREATE SCHEMA notes;
CREATE TABLE notes.report (id int, amount amount);
INSERT INTO notes.report VALUES (1, 2);
CREATE MATERIALIZED VIEW notes.total AS SELECT sum(amount) FROM notes.report;
GRANT SELECT ON notes.report TO shop_app;
ALTER DOMAIN amount ADD CHECK (public.evil(VALUE) > 0) NOT VALID;
"""


def test_what_a_superuser_made_calls_functions_of_the_app_without_a_superusers_rights(
    cluster: Cluster, create: Callable[..., str], tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    reached = cluster.folder / "administrators"
    sql = f"SET SESSION AUTHORIZATION {OWNER};" + ADMINISTRATORS.replace("{file}", str(reached))
    source = made(cluster, create(), sql, ADMINISTRATOR)
    target = create()
    dump.dump(cluster.server, source, tmp_path / "dump", jobs=1, watch=lambda: None)
    loaded(cluster, tmp_path / "dump", target)
    assert not reached.exists()
    seen = (
        "SELECT json_build_array(c.relname, pg_get_userbyid(c.relowner), c.relacl::text)"
        " FROM pg_class c WHERE relnamespace = 'notes'::regnamespace ORDER BY relname"
    )
    found = cluster.server.rows(seen, target)
    assert found == cluster.server.rows(seen, source)
    assert cluster.server.value("SELECT sum FROM notes.total", target) == "2"


# Each writes a file when it is called with a superuser's rights.
TRAPS = """
CREATE FUNCTION note() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE 'COPY (SELECT 1) TO ''{file}''';
EXCEPTION WHEN insufficient_privilege THEN RETURN;
END $$;
CREATE FUNCTION json_build_array(text, bigint) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.note(); RETURN '[]'; END $$;
CREATE FUNCTION to_json(text) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.note(); RETURN 'null'; END $$;
CREATE FUNCTION same(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.note(); RETURN false; END $$;
CREATE OPERATOR public.= (leftarg = name, rightarg = text, function = public.same);
CREATE FUNCTION fixed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  PERFORM public.note(); RETURN $1; END $$;
CREATE TABLE payment (id int CHECK (public.fixed(1) > 0));
INSERT INTO payment VALUES (1), (2);
CREATE INDEX ON payment ((id + public.fixed(1)));
"""


def test_no_session_of_the_superuser_runs_a_function_of_the_app(
    cluster: Cluster, create: Callable[..., str], tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    trap = cluster.folder / "trapped"
    source = made(cluster, create(), TRAPS.replace("{file}", str(trap)))
    owner = replace(cluster.server, role=OWNER, options=SETTINGS)
    owner.execute(
        f"ALTER DATABASE {source} SET search_path = public, pg_catalog;"
        f" ALTER DATABASE {source} SET role = '{OWNER}';"
        f" ALTER DATABASE {source} SET default_transaction_read_only = on"
    )
    found = dump.dump(cluster.server, source, tmp_path / "dump", jobs=1, watch=lambda: None)
    assert found.rows == {"public.payment": 2}
    assert found.properties["settings"]
    assert dump.count(cluster.server, source) == found.rows
    assert compare.contents(cluster.server)["rows"][source] == found.rows
    schema_digest.of_database(cluster.server, source)
    soundness.amcheck(cluster.server, lambda: None, source)
    soundness.ask(cluster.server, "SELECT count(*) = 2 FROM payment", OWNER, source)
    loaded(cluster, tmp_path / "dump", target := create())
    assert dump.count(cluster.server, target) == found.rows
    assert not trap.exists()
    # The trap works: a plain session of a superuser runs into it, even when it only counts.
    for sql in ("SELECT json_build_array('a'::text, 1::bigint)", "SELECT count(*) FROM payment"):
        replace(cluster.administrator, options="-c role=none").execute(sql, source)
        assert trap.exists()
        trap.unlink()
