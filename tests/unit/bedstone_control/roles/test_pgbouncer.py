"""Role pgbouncer: an app's pool, and what its containers and migrations connect to."""

from __future__ import annotations

from typing import Any

import pytest
from bedstone_postgresql_pool import ROLE as ROLE_IN_POSTGRESQL

from bedstone_control import names
from bedstone_control.checks import pools
from bedstone_control.checks.context import Context
from bedstone_control.roles import ca, environment, pgbouncer, postgresql
from bedstone_control.roles.app_config import host_config
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import openings
from bedstone_control.roles.site import Site
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import GROUPS, site_of

SECRETS = {
    "apps": {
        "shop": {
            "database_password": "app/0123456789abcdef",
            "database_migrate_password": "migrate-0123456789",
            "secret_key": "k",
        }
    }
}


def app(**database: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "source": {"image": "registry.example.com/shop:1"},
        "services": {"web": {"port": 3000}},
        "database": {"pool": True} | database,
    }


def site(*, apart: bool = False, host: str = "web1", **database: Any) -> Site:
    """Return a site with one host, or with PostgreSQL on a host of its own."""
    groups = GROUPS
    if apart:
        groups = GROUPS | {"all": ["web1", "data1"], "postgresql": ["data1"]}
    addresses = {"web1": "192.0.2.10", "data1": "192.0.2.20"}
    settings = {"apps": [app(**database)]}
    return site_of(settings, SECRETS, groups=groups, addresses=addresses, host=host)


def test_app_goes_through_the_pool_and_migrations_past_it() -> None:
    here = site()
    (shop,) = here.settings.apps
    serving = environment.environment(here, shop)
    migrating = environment.environment(here, shop, migrate=True)
    assert serving["DATABASE_URL"].endswith(
        "@pgbouncer:6432/shop?sslmode=verify-full&sslrootcert=/run/bedstone/ca.crt"
    )
    assert (serving["POSTGRES_HOST"], serving["POSTGRES_PORT"]) == ("pgbouncer", "6432")
    assert serving["POSTGRES_POOL_MODE"] == "transaction"
    assert "@postgres:5432/shop?" in migrating["DATABASE_URL"]
    assert (migrating["POSTGRES_HOST"], migrating["POSTGRES_PORT"]) == ("postgres", "5432")
    assert migrating["POSTGRES_POOL_MODE"] == "session"


def test_app_may_go_past_it_where_it_asks_to() -> None:
    here = site()
    (shop,) = here.settings.apps
    values = environment.placeholder_values(here, shop)
    assert values["database.direct.url"] == values["database.url"].replace(
        "@pgbouncer:6432/", "@postgres:5432/"
    )
    assert (values["database.direct.host"], values["database.direct.port"]) == ("postgres", "5432")
    assert host_config(here, shop)["hosts"].keys() >= {"postgres", "pgbouncer"}


def test_app_without_a_pool_is_as_before() -> None:
    here = site(pool=False)
    (shop,) = here.settings.apps
    values = environment.environment(here, shop)
    assert "@postgres:5432/" in values["DATABASE_URL"]
    assert "POSTGRES_POOL_MODE" not in values
    assert pgbouncer.databases(here) == []
    assert "PgBouncer" not in {entry["variable"] for entry in openings(here)}
    assert "pgbouncer" not in {entry["name"] for entry in ca.certificates(here)}
    assert pgbouncer.pgbouncer_units([]) == []
    (database,) = postgresql.databases(here)
    assert database["pool_size"] is None


def test_containers_alone_reach_it() -> None:
    here = site()
    (opening,) = [entry for entry in openings(here) if entry["variable"] == "PgBouncer"]
    assert opening["port"] == 6432
    assert opening["networks"]
    assert "0.0.0.0" not in pgbouncer.listen_addresses(here)
    data = site(apart=True, host="data1")
    (opening,) = [entry for entry in openings(data) if entry["variable"] == "PgBouncer"]
    assert opening["networks"] == ["192.0.2.10/32"]
    assert "192.0.2.20" in pgbouncer.listen_addresses(data)


def test_certificate_has_the_name_that_containers_use() -> None:
    (found,) = [entry for entry in ca.certificates(site()) if entry["name"] == "pgbouncer"]
    assert found["common_name"] == names.POOL_HOST
    assert found["reload"] == ["bedstone-pool.service"]


def test_pool_gets_its_size_and_its_own_query() -> None:
    line = pgbouncer.pgbouncer_database({"name": "shop", "size": 20}, "/run/postgresql", 5432)
    assert line.startswith("shop = host=/run/postgresql port=5432 pool_size=20 ")
    assert "verifier($1, ''shop'')'" in line
    assert pgbouncer.pgbouncer_open_files(1000) == 5096
    assert pgbouncer.pgbouncer_stream("192.0.2.1", 6432) == "192.0.2.1:6432"
    assert pgbouncer.pgbouncer_stream("fd00::1", 6432) == "[fd00::1]:6432"


@pytest.mark.parametrize("name", ["shop'", "a b", "Shop", "", "pgbouncer", "bedstone_pool"])
def test_name_that_would_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name"):
        pgbouncer.pgbouncer_database({"name": name, "size": 1}, "/run/postgresql", 5432)


def test_postgresql_lets_the_pool_in_by_its_socket_alone() -> None:
    given = postgresql.databases(site())
    lines = [line.split() for line in postgresql.postgresql_hba(given, ["10.0.0.0/24"])]
    assert ["local", "postgres", '"bedstone_pool"', "peer", "map=bedstone"] in lines
    assert ["local", '"shop"', '+"shop_app"', "scram-sha-256"] in lines
    assert lines.index(["local", "all", "all", "reject"]) > lines.index(
        ["local", '"shop"', '+"shop_app"', "scram-sha-256"]
    )
    (ident,) = postgresql.postgresql_ident([], given)
    assert ident.split() == ["bedstone", "bedstone-pool", '"bedstone_pool"']
    assert names.POOL_ROLE == ROLE_IN_POSTGRESQL
    without = [each | {"pool_size": None} for each in given]
    assert postgresql.postgresql_ident([], without) == []
    assert not any("pool" in line for line in postgresql.postgresql_hba(without, []))


def problems(*apps: dict[str, Any]) -> list[str]:
    context = Context(
        {"bedstone_apps": list(apps)},
        groups={"postgresql": ["web1"]},
    )
    settings = Settings.model_validate({"apps": list(apps)})
    return [problem.message for problem in pools.check(context, settings)]


def test_check_compares_pools_with_what_there_is() -> None:
    assert problems(app()) == []
    assert problems(app(pool={"size": 20}, connections=20)) == []
    assert problems(app(pool={"size": 20}, connections=10)) == [
        "The pool has 20 connections, and the app may have 10."
    ]


def on_server(memory_mb: int, *sizes: Any, **variables: Any) -> list[str]:
    apps = [app(pool={"size": size} if size is not True else True) for size in sizes]
    found = pools.check_server("data1", memory_mb, apps, variables)
    return [problem.message for problem in found]


def test_server_has_as_many_connections_as_the_pools_open() -> None:
    """50 on a small server, 100 on others."""
    assert on_server(4096, 60, 30) == []
    (message,) = on_server(4096, 60, 31)
    assert message.startswith("Its PostgreSQL has 100 connections, 10 of them")
    assert "may open 91" in message
    assert "has 50 connections" in on_server(1024, 41)[0]
    assert on_server(4096, 150, postgresql_max_connections=200) == []
    assert on_server(1024, True, True, True, True) == []
    assert "may open 50" in on_server(1024, *[True] * 5)[0]
    assert list(pools.check_server("data1", 4096, [app(pool=False), "broken", {}], {})) == []


def test_check_refuses_client_certificates() -> None:
    (message,) = problems(app(client_certificate=True))
    assert "`client_certificate` is set" in message
    assert problems(app(pool=False, client_certificate=True)) == []


@pytest.mark.parametrize("pool", [{"size": 0}, {"size": "many"}, {"sise": 3}, {"size": 1001}])
def test_bad_pool_is_an_error(pool: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pool"):
        Settings.model_validate({"apps": [app(pool=pool)]})


def test_role_is_in_the_list() -> None:
    assert pgbouncer.ROLE in ROLES
