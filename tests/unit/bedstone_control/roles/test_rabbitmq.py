"""Role rabbitmq: users that change with their password, and how containers reach the broker."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from bedstone_control.roles import ca, environment, rabbitmq
from bedstone_control.roles.app_config import host_config
from bedstone_control.roles.role import openings
from bedstone_control.roles.site import Site
from tests.unit.fixtures.roles import GROUPS, site_of

PASSWORD = "0123456789/abcdef-and-more"


def site(*, host: str = "web1", apart: bool = False, password: str = PASSWORD, **part: Any) -> Site:
    """Return a site with one host, or with RabbitMQ on a host of its own."""
    app = {
        "name": "shop",
        "source": {"image": "registry.example.com/shop:1"},
        "services": {"web": {"port": 3000}},
        "database": False,
        "rabbitmq": part or True,
    }
    groups = GROUPS | {"rabbitmq": ["web1"]}
    if apart:
        groups = {"all": ["web1", "mq1"], "app": ["web1"], "proxy": ["web1"], "rabbitmq": ["mq1"]}
    given = {
        "groups": groups,
        "addresses": {"web1": "192.0.2.10", "mq1": "192.0.2.20"},
        "host": host,
    }
    secrets = {"apps": {"shop": {"rabbitmq_password": password, "secret_key": "k"}}}
    return site_of({"apps": [app]}, secrets, **given)


def ports(site: Site) -> dict[int, list[str] | None]:
    return {each["port"]: each["networks"] for each in openings(site)}


def test_user_has_another_name_with_each_password() -> None:
    (first,), (second,) = rabbitmq.users(site()), rabbitmq.users(site(password=f"{PASSWORD}!"))
    assert first["name"] != second["name"]
    assert first["name"].startswith("shop-")
    assert first["vhost"] == "shop"
    assert rabbitmq.users(site()) == [first]


def test_on_one_host_containers_come_in_by_the_bridge() -> None:
    here = site(vhost="/shop")
    (user,) = rabbitmq.users(here)
    values = environment.environment(here, here.settings.apps[0])
    place = f"{user['name']}:0123456789%2Fabcdef-and-more@rabbitmq:5672"
    assert values["RABBITMQ_URL"] == f"amqp://{place}/%2Fshop"
    assert "RABBITMQ_URL" in host_config(here, here.settings.apps[0])["secret_variables"]
    assert host_config(here, here.settings.apps[0])["hosts"] == {"rabbitmq": "172.17.0.1"}
    assert rabbitmq.listen_addresses(here) == ["127.0.0.1", "172.17.0.1"]
    assert rabbitmq.tls_addresses(here) == []
    assert not any(each["name"] == "rabbitmq" for each in ca.certificates(here))
    assert ports(here)[5672] == ["172.17.0.0/16", "172.20.0.0/14"]
    assert 5671 not in ports(here)


def test_between_hosts_tls_is_all_there_is() -> None:
    broker, web = site(host="mq1", apart=True), site(apart=True)
    assert rabbitmq.listen_addresses(broker) == ["127.0.0.1"]
    assert rabbitmq.tls_addresses(broker) == ["192.0.2.20"]
    (certificate,) = ca.certificates(broker)
    assert certificate["names"] == ["rabbitmq", "localhost", "mq1", "192.0.2.20"]
    assert 5672 not in ports(broker)
    assert ports(broker)[5671] == ["192.0.2.10/32"]
    url = environment.environment(web, web.settings.apps[0])["RABBITMQ_URL"]
    assert url.startswith("amqps://shop-")
    assert url.endswith("@rabbitmq:5671/shop")
    assert host_config(web, web.settings.apps[0])["hosts"] == {"rabbitmq": "192.0.2.20"}


def test_definitions_hold_a_hash_that_rabbitmq_checks() -> None:
    users = rabbitmq.users(site())
    text = rabbitmq.rabbitmq_definitions(users)
    assert PASSWORD not in text
    assert rabbitmq.rabbitmq_definitions(users) == text
    (user,) = json.loads(text)["users"]
    stored = base64.b64decode(user["password_hash"])
    assert stored[4:] == hashlib.sha512(stored[:4] + PASSWORD.encode()).digest()
    assert user["tags"] == []


def test_settled_changes_with_the_users() -> None:
    first, second = rabbitmq.users(site()), rabbitmq.users(site(password=f"{PASSWORD}!"))
    assert rabbitmq.rabbitmq_settled(first) != rabbitmq.rabbitmq_settled(second)
    assert rabbitmq.rabbitmq_settled(first) == rabbitmq.rabbitmq_settled(first)


@pytest.mark.parametrize("password", ["", "short"])
def test_weak_password_is_refused(password: str) -> None:
    user = {"name": "shop", "password": password, "vhost": "shop"}
    with pytest.raises(ValueError, match="missing or too short"):
        rabbitmq.rabbitmq_definitions([user])


def test_user_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        rabbitmq.rabbitmq_definitions(2 * rabbitmq.users(site()))


def test_limits_follow_from_the_longest_task() -> None:
    assert rabbitmq.longest_task_minutes(site(longest_task_minutes=240)) == 240
    assert rabbitmq.rabbitmq_limits(512, 50)["consumer_timeout"] == 60 * 60 * 1000
    with pytest.raises(ValueError, match="rabbitmq_memory_mb is 1"):
        rabbitmq.rabbitmq_limits(1, 50)
