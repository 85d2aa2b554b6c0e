"""Nothing that an app makes in its database runs with the rights of PostgreSQL's superuser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Payments

MARK = "/var/lib/postgresql/bedstone-test-reached"
# What is called by a bare name, or by PostgreSQL itself as it plans a query or loads rows.
TRAPS = f"""
SET search_path = public;
CREATE FUNCTION reach() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE 'COPY (SELECT 1) TO PROGRAM ''cat >> {MARK}''';
EXCEPTION WHEN insufficient_privilege THEN RETURN;
END $$;
CREATE FUNCTION json_build_array(text, bigint) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.reach(); RETURN '[]'; END $$;
CREATE FUNCTION to_json(text) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.reach(); RETURN 'null'; END $$;
CREATE FUNCTION same(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.reach(); RETURN false; END $$;
CREATE OPERATOR public.= (leftarg = name, rightarg = text, function = public.same);
CREATE FUNCTION fixed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  PERFORM public.reach(); RETURN $1; END $$;
CREATE TABLE trap (id int CHECK (public.fixed(1) > 0));
INSERT INTO trap VALUES (1);
CREATE INDEX ON trap ((id + public.fixed(1)));
ALTER DATABASE payments SET search_path = public, pg_catalog;
"""
CLEAN = """
DROP TABLE IF EXISTS public.trap;
DROP OPERATOR IF EXISTS public.= (name, text);
DROP FUNCTION IF EXISTS public.reach(), public.json_build_array(text, bigint), public.to_json(text),
    public.same(name, text), public.fixed(int);
ALTER DATABASE payments RESET search_path;
"""


@pytest.fixture
def trapped(payments: Payments) -> Iterator[Payments]:
    payments.host.check_output(f"rm -f {MARK}")
    assert payments.sql(TRAPS, "payments_migrate").rc == 0
    yield payments
    payments.admin(CLEAN, "payments")
    payments.host.run(f"rm -f {MARK}")


def test_app_does_not_become_the_superuser(trapped: Payments) -> None:
    path = trapped.backup()
    for arguments in (
        f"verify payments --backup {path}",
        f"restore payments {path} --into payments_look --yes",
        f"restore payments {path} --yes --no-restart",
        "status",
        "metrics",
        "upgrade postgresql",
    ):
        trapped.bedstone(arguments)
        assert not trapped.host.file(MARK).exists, arguments
    assert trapped.rows() == 500
    # They are traps: a session of the superuser without the option runs into them.
    for sql in (
        "SELECT json_build_array('a'::text, 1::bigint)",
        "SELECT count(*) FROM public.trap",
    ):
        assert trapped.admin(sql, "payments").rc == 0
        assert trapped.host.file(MARK).exists, sql
        trapped.host.check_output(f"rm {MARK}")


def test_extension_of_a_migration_is_the_apps_after_a_restore(payments: Payments) -> None:
    assert payments.sql("CREATE EXTENSION citext", "payments_migrate").rc == 0
    payments.restored(f"{payments.backup()} --no-restart")
    undone = payments.sql("DROP EXTENSION citext", "payments_migrate")
    assert undone.rc == 0, undone.stderr
