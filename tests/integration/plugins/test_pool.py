"""PgBouncer's function on a real server: whose verifiers it returns, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from bedstone_postgresql import plan
from bedstone_postgresql_declared import Declared
from bedstone_postgresql_pool import ROLE

from tests.integration.plugins.test_plan import converge, entry, read, wanted
from tests.unit.fixtures.cluster import Cluster


def pooled(**changes: Any) -> Declared:
    shop = entry("shop", app_login="shop_app_00000001", pool_size=5) | changes
    return wanted(shop, entry("desk", pool_size=2), entry("alone"))


@pytest.fixture
def converged(cluster: Cluster) -> Cluster:
    converge(cluster, pooled())
    return cluster


def verifier(cluster: Cluster, login: str, database: str) -> str:
    query = f"SELECT verifier FROM bedstone_pool.verifier('{login}', '{database}')"
    return cluster.psql(f"SET ROLE {ROLE}; {query};").strip()


def test_it_returns_the_verifiers_of_pooled_logins_alone(converged: Cluster) -> None:
    assert verifier(converged, "shop_app_00000001", "shop").startswith("SCRAM-SHA-256$4096:")
    assert verifier(converged, "desk_app", "desk").startswith("SCRAM-SHA-256$4096:")
    for login, database in (
        ("shop_app_00000001", "desk"),
        ("desk_app", "shop"),
        ("shop_migrate", "shop"),
        ("shop_owner", "shop"),
        ("shop_app", "shop"),
        ("alone_app", "alone"),
        ("postgres", "shop"),
        ("unknown", "shop"),
    ):
        assert verifier(converged, login, database) == "", (login, database)


def test_login_that_was_closed_has_none(converged: Cluster) -> None:
    converged.psql("ALTER ROLE desk_app VALID UNTIL '2020-01-01';")
    assert verifier(converged, "desk_app", "desk") == ""


def test_no_other_role_may_call_it(converged: Cluster) -> None:
    for role in ("desk_app", "shop_migrate"):
        answer = converged.psql(
            f"SELECT has_schema_privilege('{role}', 'bedstone_pool', 'USAGE'),"
            f" has_function_privilege('{role}', 'bedstone_pool.verifier(text, text)', 'EXECUTE');"
        )
        assert answer.strip() == "f|f"


def test_it_follows_the_declaration(converged: Cluster) -> None:
    only_desk = wanted(entry("desk", pool_size=2))
    assert converge(converged, only_desk)[-1] == "pool: logins of desk"
    assert verifier(converged, "shop_app_00000001", "shop") == ""
    assert converge(converged, wanted(entry("desk"))) == ["pool: none"]
    schemas = converged.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'bedstone_pool';")
    assert schemas.strip() == "0"


def test_what_was_opened_by_hand_is_closed(converged: Cluster) -> None:
    function = "bedstone_pool.verifier(text, text)"
    converged.psql(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC;")
    assert converge(converged, pooled()) == ["pool: logins of desk, shop"]
    converged.psql(f"ALTER FUNCTION {function} SECURITY INVOKER;")
    assert converge(converged, pooled()) == ["pool: logins of desk, shop"]


def test_pool_larger_than_its_logins_limit_is_refused(converged: Cluster) -> None:
    declaration = pooled(connections=4)
    with pytest.raises(ValueError, match="the pool of shop has 5 connections, and its login may"):
        plan(declaration, read(converged, declaration))
    with pytest.raises(ValueError, match="pool_size of shop is 0"):
        pooled(pool_size=0)
