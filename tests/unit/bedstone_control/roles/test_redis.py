"""Role redis: an app's own instances, and how its containers reach them."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.checks import apps as checks
from bedstone_control.checks import topology
from bedstone_control.checks.context import Context
from bedstone_control.roles import ca, environment, redis
from bedstone_control.roles.app_config import host_config
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import openings
from bedstone_control.roles.site import Site
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import GROUPS, site_of

LONG = "0123456789abcdef-and-more"
ADMIN = "admin-0123456789abcdef"
SECRETS = {
    "redis_admin_password": ADMIN,
    "apps": {
        "shop": {
            "redis_cache_password": f"c/{LONG}",
            "redis_store_password": LONG,
            "secret_key": "k",
        }
    },
}


def app(**changes: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "source": {"image": "registry.example.com/shop:1"},
        "services": {"web": {"port": 3000}},
        "database": False,
        "redis": {"cache": {"memory_mb": 256}, "store": True},
    } | changes


def site(*, host: str = "web1", apart: bool = False, **changes: Any) -> Site:
    """Return a site with one host, or with Redis on a host of its own."""
    groups = GROUPS | {"redis": ["web1"]}
    if apart:
        groups = {"all": ["web1", "data1"], "app": ["web1"], "proxy": ["web1"], "redis": ["data1"]}
    addresses = {"web1": "192.0.2.10", "data1": "192.0.2.20"}
    return site_of(
        {"apps": [app(**changes)]}, SECRETS, groups=groups, addresses=addresses, host=host
    )


def test_cache_evicts_and_store_keeps() -> None:
    cache, store = redis.instances(site())
    assert (cache["name"], cache["eviction"], cache["persistent"], cache["memory_mb"]) == (
        "shop-cache", "allkeys-lru", False, 256,
    )  # fmt: skip
    assert (store["name"], store["eviction"], store["persistent"], store["memory_mb"]) == (
        "shop-store", "noeviction", True, 128,
    )  # fmt: skip
    assert cache["port"] != store["port"]


def test_app_gets_addresses_with_its_passwords() -> None:
    here = site()
    values = environment.environment(here, here.settings.apps[0])
    port = redis.port("shop", "cache")
    assert values["REDIS_URL"] == f"redis://app:c%2F{LONG}@redis:{port}/0"
    assert values["REDIS_STORE_URL"] == f"redis://app:{LONG}@redis:{redis.port('shop', 'store')}/0"
    config = host_config(here, here.settings.apps[0])
    assert config["hosts"] == {"redis": "172.17.0.1"}
    assert {"REDIS_URL", "REDIS_STORE_URL"} <= set(config["secret_variables"])


def test_on_one_host_it_speaks_through_the_bridge_alone() -> None:
    here = site()
    assert redis.listen_addresses(here) == ["127.0.0.1", "172.17.0.1"]
    assert not redis.has_tls(here)
    assert not any(each["name"] == "redis" for each in ca.certificates(here))
    opened = {each["port"]: each["networks"] for each in openings(here)}
    assert opened[redis.port("shop", "store")] == ["172.17.0.0/16", "172.20.0.0/14"]


def test_between_hosts_it_speaks_tls_to_the_app_host_alone() -> None:
    data, web = site(host="data1", apart=True), site(apart=True)
    assert redis.listen_addresses(data) == ["127.0.0.1", "192.0.2.20"]
    assert redis.has_tls(data)
    assert redis.has_tls(web)
    (certificate,) = ca.certificates(data)
    assert certificate["names"] == ["redis", "localhost", "data1", "192.0.2.20"]
    assert certificate["reload"] == ["redis-shop-cache.service", "redis-shop-store.service"]
    opened = {each["port"]: each["networks"] for each in openings(data)}
    assert opened[redis.port("shop", "store")] == ["192.0.2.10/32"]
    assert redis.port("shop", "store") not in {each["port"] for each in openings(web)}
    url = environment.environment(web, web.settings.apps[0])["REDIS_URL"]
    assert url.startswith("rediss://app:")
    assert url.endswith("/0?ssl_cert_reqs=required&ssl_ca_certs=/run/bedstone/ca.crt")
    assert host_config(web, web.settings.apps[0])["hosts"] == {"redis": "192.0.2.20"}


def test_ports_stay_when_apps_come_and_go() -> None:
    assert redis.port("shop", "cache") == redis.port("shop", "cache")
    assert redis.port("shop", "cache", 7000) == 7000
    ports = [redis.port(f"app{number}", kind) for number in range(50) for kind in redis.KINDS]
    assert all(1024 <= port < 32768 for port in ports)


def test_app_without_redis_has_none() -> None:
    here = site(redis=None)
    assert redis.instances(here) == []
    assert "REDIS_URL" not in environment.environment(here, here.settings.apps[0])
    settings = Settings.model_validate({"apps": [app(redis=None)]})
    assert list(ROLES[[role.name for role in ROLES].index("redis")].secrets(settings)) == []


def test_files_hold_no_password() -> None:
    files = redis.redis_files(redis.instances(site()), ADMIN, "valkey")
    users = [each for each in files if each["path"].endswith(".acl")]
    assert len(users) == 2
    for each in users:
        assert LONG not in each["content"]
        assert each["sensitive"]
        assert each["mode"] == "0640"
        assert "user default off" in each["content"]
    (password,) = [each for each in files if LONG not in str(each) and "password" in each["path"]]
    assert password["mode"] == "0600"


def test_password_before_a_rotation_is_accepted_too() -> None:
    (given, _) = redis.instances(site())
    both = given | {"previous_password": "previous-0123456789abc"}
    one, two = (redis.redis_files([each], ADMIN, "valkey")[1]["content"] for each in (given, both))
    assert (one.count("#"), two.count("#")) == (2, 3)
    assert "previous-0123456789abc" not in two


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Shop"}, "can't be the name of an instance"),
        ({"name": "a b"}, "can't be the name of an instance"),
        ({"password": ""}, "missing or too short"),
        ({"password": "short"}, "missing or too short"),
    ],
)
def test_bad_instances_are_refused(changes: dict[str, Any], message: str) -> None:
    (given, _) = redis.instances(site())
    with pytest.raises(ValueError, match=message):
        redis.redis_files([given | changes], ADMIN, "valkey")


def test_admin_password_is_needed() -> None:
    with pytest.raises(ValueError, match="redis_admin_password is missing"):
        redis.redis_files(redis.instances(site()), None, "valkey")
    assert redis.redis_files([], None, "valkey") == []


def test_two_instances_with_one_port_are_refused() -> None:
    given = redis.instances(site())
    same = [each | {"port": 7000} for each in given]
    with pytest.raises(ValueError, match="are both 7000"):
        redis.redis_files(same, ADMIN, "valkey")


def problems(check: Any, *apps: dict[str, Any], **groups: list[str]) -> list[str]:
    context = Context({"bedstone_apps": list(apps)}, groups=groups)
    settings = Settings.model_validate({"apps": list(apps)})
    return [problem.message for problem in check(context, settings)]


def test_check_names_ports_that_two_instances_share() -> None:
    port = redis.port("shop", "cache")
    other = app(name="other", redis={"store": {"port": port}})
    assert problems(checks.check, app(), other) == [
        f"The Redis cache of `shop` has the port {port}, too."
    ]
    assert problems(checks.check, app()) == []


def test_check_names_a_missing_group() -> None:
    found = problems(topology.check, app(), app=["web1"])
    assert "The inventory's group `redis` has no host; it runs the apps' Redis instances." in found


def test_neither_cache_nor_store_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither `cache` nor `store`"):
        Settings.model_validate({"apps": [app(redis={})]})
