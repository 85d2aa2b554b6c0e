"""What a server should answer, by the settings."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.audit import targets
from bedstone_control.audit.targets import Opening
from tests.unit.fixtures.roles import site_of

SHOP: dict[str, Any] = {
    "name": "shop",
    "domains": ["shop.example.com", "*.shop.example.com"],
    "source": {"image": "registry.example.com/shop:1"},
    "services": {
        "web": {"port": 8000, "route": "/", "health": "/health/"},
        "api": {"port": 8001, "route": "/api/", "health": "/inside", "accept_status": [503]},
        "mail": {"publish": ["25:2525", "127.0.0.1:9000:9000", "[::]:5353:53/udp"]},
    },
}
SECRETS = {"apps": {"shop": {"database_password": "x", "database_migrate_password": "y"}}}


def target(address: str = "192.0.2.10", **changes: Any) -> targets.Target:
    return targets.target(site_of({"apps": [SHOP]}, SECRETS, **changes), address)


def test_openings_are_ssh_the_web_published_ports_and_further_ones() -> None:
    variables = {
        "ansible_port": 2222,
        "firewall_ssh_networks": ["198.51.100.0/24"],
        "firewall_extra_openings": [{"port": 9100, "networks": ["10.0.0.0/8"]}],
        "nginx_https_port": 8443,
    }
    found = target(variables=variables)
    assert set(found.openings) == {
        Opening(2222, ("198.51.100.0/24",)),
        Opening(80),
        Opening(8443),
        Opening(25),
        Opening(9100, ("10.0.0.0/8",), required=False),
    }
    assert found.https_suffix == ":8443"


def test_port_of_a_forwarding_is_not_the_servers() -> None:
    found = target("127.0.0.1", variables={"ansible_port": 40022})
    assert found.openings[0] == Opening(22)


def test_database_host_is_open_to_the_hosts_of_apps_alone_and_has_no_domains() -> None:
    groups = {"all": ["web1", "db1"], "app": ["web1"], "proxy": ["web1"], "postgresql": ["db1"]}
    addresses = {"web1": "10.0.0.1", "db1": "10.0.0.2"}
    found = target("10.0.0.2", host="db1", groups=groups, addresses=addresses)
    assert (found.domains, found.health) == ((), ())
    database = next(each for each in found.openings if each.port == 5432)
    assert database.is_for("10.0.0.1")
    assert not database.is_for("10.0.0.3")


def test_health_is_asked_where_the_front_door_leads_to_it() -> None:
    web, api = target().health
    assert (web.path, web.domain) == ("/health/", "shop.example.com")
    assert {200, 204} < web.statuses
    assert web.statuses.isdisjoint({302, 404, 503})
    assert api.path == "/api/"
    assert {404, 503} < api.statuses
    assert 502 not in api.statuses


def test_guarded_path_may_be_refused() -> None:
    edge = {"basic_auth": ["alice"], "paths": [{"path": "/api", "deny": ["192.0.2.0/24"]}]}
    secrets = {"apps": {"shop": {**SECRETS["apps"]["shop"], "basic_auth_alice": "p" * 16}}}
    site = site_of({"apps": [{**SHOP, "edge": edge}]}, secrets)
    web, api = targets.target(site, "192.0.2.10").health
    assert 401 in web.statuses
    assert 403 not in web.statuses
    assert {401, 403} <= api.statuses


def test_a_wildcard_is_asked_by_one_name() -> None:
    assert target().domains == ("shop.example.com", "audit.shop.example.com")


def test_headers_are_the_declared_ones() -> None:
    assert target().headers == (
        "X-Content-Type-Options",
        "X-Frame-Options",
        "X-Permitted-Cross-Domain-Policies",
        "Referrer-Policy",
    )
    variables = {"nginx_security_headers": {"X-Frame-Options": ""}, "nginx_hsts_seconds": 0}
    found = target(variables=variables)
    assert (found.headers, found.hsts) == (("X-Content-Type-Options",), False)


@pytest.mark.parametrize(
    ("text", "ports"), [("22", [22]), ("1-3", [1, 2, 3]), ("443, 80-81,80", [80, 81, 443])]
)
def test_ports_of_a_text(text: str, ports: list[int]) -> None:
    assert targets.ports(text) == ports


@pytest.mark.parametrize("text", ["", "ssh", "0-9", "9-8", "1-65536", "-5"])
def test_text_that_names_no_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ports: .*Example: 1-1024,8080"):
        targets.ports(text)
