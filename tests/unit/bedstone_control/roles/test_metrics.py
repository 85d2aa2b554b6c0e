"""Role metrics: what each host exports, to whom, and what Prometheus asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from bedstone_control.roles import metrics, postgresql, rabbitmq, redis
from bedstone_control.roles.registry import ROLES, secrets
from bedstone_control.roles.role import openings
from bedstone_control.roles.site import Site
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import site_of

PASSWORD = "metrics-0123456789abcdef"
SECRETS = {
    "redis_admin_password": "admin-0123456789abcdef",
    "redis_metrics_password": PASSWORD,
    "apps": {
        "shop": {
            "redis_store_password": "store-0123456789abcdef",
            "rabbitmq_password": "broker-0123456789abcdef",
            "secret_key": "k",
        }
    },
}
APP = {
    "name": "shop",
    "domains": ["shop.example.com"],
    "source": {"image": "registry.example.com/shop:1"},
    "services": {"web": {"port": 3000}},
    "database": False,
    "redis": {"store": {"queues": ["celery", "slow"]}},
    "rabbitmq": {"vhost": "/shop", "queues": ["mails"]},
}
ADDRESSES = {"web1": "192.0.2.10", "data1": "192.0.2.20", "watch1": "192.0.2.30"}


def site(*, host: str = "web1", wanted: object = True, **groups: list[str]) -> Site:
    """Return a site with an app host, a host of data, and the hosts of `monitoring` if given."""
    found = {
        "all": ["web1", "data1", "watch1"],
        "app": ["web1"],
        "proxy": ["web1"],
        "postgresql": ["data1"],
        "redis": ["data1"],
        "rabbitmq": ["data1"],
    }
    settings: dict[str, Any] = {"apps": [APP], "metrics": wanted}
    return site_of(settings, SECRETS, groups=found | groups, addresses=ADDRESSES, host=host)


def test_each_host_exports_what_runs_on_it() -> None:
    assert metrics.exporters(site()) == ["node", "nginx"]
    assert metrics.exporters(site(host="data1")) == ["node", "postgresql", "redis", "rabbitmq"]
    assert metrics.exporters(site(host="watch1")) == ["node"]


@pytest.mark.parametrize("wanted", [None, False])
def test_without_the_setting_nothing_is_there(wanted: object) -> None:
    for host in ADDRESSES:
        one = site(host=host, wanted=wanted, monitoring=["watch1"])
        assert metrics.exporters(one) == []
        assert metrics.listen_address(one) is None
        assert list(metrics.further_ports(one)) == []
        assert metrics.certificates(one) == []
        assert metrics.targets(one, "web1") == []
        assert metrics.queues(one) == []
        assert redis.instances(one)[0]["metrics_password"] is None
        assert postgresql.ROLE.arguments["postgresql_metrics"](one) is False
        assert rabbitmq.ROLE.arguments["rabbitmq_metrics"](one) is False
    assert ("redis_metrics_password",) not in {
        secret.place for secret in secrets(Settings.model_validate({"apps": [APP]}))
    }


def test_password_for_redis_is_a_secret_of_the_vault() -> None:
    settings = Settings.model_validate({"apps": [APP], "metrics": {}})
    (found,) = [one for one in secrets(settings) if one.place == ("redis_metrics_password",)]
    assert found.least == 16
    assert found.make is not None


def test_without_monitoring_no_port_is_open() -> None:
    for host in ADDRESSES:
        assert metrics.listen_address(site(host=host)) is None
        assert metrics.targets(site(), host) == []


def test_port_is_open_to_the_hosts_of_monitoring_alone() -> None:
    one = site(host="data1", monitoring=["watch1"])
    assert metrics.listen_address(one) == "192.0.2.20"
    (found,) = [each for each in openings(one) if each["port"] == 9443]
    assert found["networks"] == ["192.0.2.30/32"]
    (certificate,) = metrics.certificates(one)
    assert certificate["usage"] == "server"
    assert certificate["reload"] == ["bedstone-metrics-proxy.service"]
    assert {"192.0.2.20", "127.0.0.1"} <= set(certificate["names"])


def test_host_that_collects_its_own_alone_listens_on_localhost() -> None:
    one = site(monitoring=["web1"])
    assert metrics.listen_address(one) == "127.0.0.1"
    assert [each for each in openings(one) if each["port"] == 9443] == []
    assert metrics.listen_address(one, "data1") == "192.0.2.20"


def test_targets_name_what_prometheus_asks() -> None:
    found = metrics.targets(site(monitoring=["watch1"]), "data1")
    assert [target["job"] for target in found] == ["node", "postgresql", "redis", "rabbitmq"]
    assert {target["address"] for target in found} == {"192.0.2.20:9443"}
    assert {target["path"] for target in found} == {"/proxy"}
    target = found[2]
    assert target["labels"] == {"app": "shop", "redis": "store"}
    # Its clients are on another host, and so it speaks TLS.
    port = redis.port("shop", "store")
    assert target["params"] == {"module": "redis", "target": f"rediss://localhost:{port}"}


def test_queues_are_measured_where_they_are() -> None:
    assert metrics.queues(site()) == []
    assert metrics.queues(site(host="data1")) == [
        {"app": "shop", "queue": "celery", "redis": "shop-store"},
        {"app": "shop", "queue": "slow", "redis": "shop-store"},
        {"app": "shop", "queue": "mails", "vhost": "/shop"},
    ]


def test_user_of_metrics_reads_lengths_and_no_value() -> None:
    given = redis.instances(site(host="data1"))
    files = redis.redis_files(given, "admin-0123456789abcdef", "valkey")
    (users,) = [file["content"] for file in files if file["path"].endswith(".acl")]
    (line,) = [line for line in users.splitlines() if line.startswith("user metrics ")]
    assert " %R~celery %R~slow " in line
    assert " -@all " in line
    assert "+get " not in line
    assert " ~" not in line
    assert PASSWORD not in users


def test_files_keep_the_password_from_others() -> None:
    files = metrics.metrics_files(
        ["redis"], None, [{"name": "shop-store", "port": 16401}], PASSWORD, tls=False
    )
    secret = [file for file in files if PASSWORD in file.get("content", "")]
    assert {(file["path"], file["mode"]) for file in secret} == {
        ("/etc/bedstone/metrics/redis.json", "0640"),
        ("/etc/bedstone/metrics/redis.password", "0600"),
    }
    assert all(file["sensitive"] for file in secret)
    by_address = json.loads(secret[0]["content"])
    assert by_address == {"redis://metrics@127.0.0.1:16401": PASSWORD}


@pytest.mark.parametrize("password", [None, "", "short"])
def test_redis_without_a_password_is_refused(password: str | None) -> None:
    with pytest.raises(ValueError, match="metrics_redis_password"):
        metrics.metrics_files(["redis"], None, [], password, tls=False)


def test_unknown_exporter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"apache.*node, nginx"):
        metrics.metrics_files(["apache"], None, [], None, tls=False)


@pytest.mark.parametrize("queue", ["", "a b", "*", "a[b]", 'a"b', "a\nb", "x" * 129])
def test_queue_that_is_a_pattern_or_breaks_a_file_is_refused(queue: str) -> None:
    given = [{"app": "shop", "queue": queue, "redis": "shop-store"}]
    with pytest.raises(ValueError, match=r"queue.*celery"):
        metrics.metrics_live_files(given, containers=False)
    app = APP | {"redis": {"store": {"queues": [queue]}}}
    with pytest.raises(ValidationError):
        Settings.model_validate({"apps": [app]})


@pytest.mark.parametrize("place", [{}, {"redis": "a-store", "vhost": "/"}])
def test_queue_is_in_one_place(place: dict[str, str]) -> None:
    given = [{"app": "shop", "queue": "celery", **place}]
    with pytest.raises(ValueError, match="one of redis and vhost"):
        metrics.metrics_live_files(given, containers=False)


def test_debians_own_units_are_masked_and_ours_run() -> None:
    units = metrics.metrics_units(["node", "nginx", "rabbitmq"], "192.0.2.10", [])
    masked = {unit["name"] for unit in units if unit.get("masked")}
    assert masked == {
        "mtail.service",
        "prometheus-exporter-exporter.service",
        "prometheus-node-exporter.service",
    }
    assert [unit["name"] for unit in units if not unit.get("masked")] == [
        "bedstone-exporter-node.service",
        "bedstone-exporter-mtail.service",
        "bedstone-metrics-proxy.service",
    ]
    assert metrics.metrics_units([], None, []) == []


@pytest.mark.parametrize("buckets", [[], [0], [1, 1], [2, 1], [-1], ["a"]])
def test_buckets_have_to_grow(buckets: list[Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"apps": [APP], "metrics": {"buckets": buckets}})


def test_buckets_are_those_of_the_settings() -> None:
    assert metrics.buckets(site())[0] == 0.005
    assert metrics.buckets(site(wanted={"buckets": [0.1, 1]})) == [0.1, 1]


def test_role_is_in_the_registry_after_what_it_measures() -> None:
    order = [role.name for role in ROLES]
    assert order.index("metrics") > max(
        order.index(name) for name in ("postgresql", "redis", "rabbitmq", "nginx")
    )
