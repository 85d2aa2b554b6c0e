"""Role firewall: its rules, and what a site opens."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from bedstone_control.roles import firewall
from bedstone_control.roles.firewall import (
    firewall_app_egress,
    firewall_closed,
    firewall_egress,
    firewall_interfaces,
    firewall_matches,
    firewall_openings,
    firewall_ssh_matches,
)
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.roles import site_of

SECRETS = {"apps": {"shop": {"database_password": "x", "database_migrate_password": "y"}}}
APP = {
    "name": "shop",
    "domains": ["shop.example.com"],
    "source": {"image": "registry.example.com/shop:1"},
    "services": {
        "web": {"port": 8000, "health": "/health/"},
        "mail": {"publish": ["25:2525", "127.0.0.1:9000:9000", "[::]:5353:53/udp"]},
    },
}


def test_openings_become_one_rule_for_each_protocol_and_source() -> None:
    networks = ["10.1.0.0/16", "fd00::/8"]
    openings: list[dict[str, Any]] = [
        {"port": 443},
        {"port": 80, "networks": None},
        {"port": 443, "protocol": "udp"},
        {"port": 5432, "networks": networks},
    ]
    assert firewall_openings(openings, "firewall_openings") == {
        "everyone": ["tcp dport { 80, 443 } accept", "udp dport { 443 } accept"],
        "limited": ["tcp dport { 80, 443 } jump clients"],
        "networks": [
            "ip saddr { 10.1.0.0/16 } tcp dport { 5432 } accept",
            "ip6 saddr { fd00::/8 } tcp dport { 5432 } accept",
        ],
    }


def test_no_networks_open_nothing() -> None:
    rules = firewall_openings([{"port": 5432, "networks": []}], "firewall_openings")
    assert rules == {"everyone": [], "networks": [], "limited": []}


def test_published_port_is_matched_by_the_number_that_the_client_asked_for() -> None:
    openings = [{"port": 8090, "networks": ["192.0.2.1"]}]
    rules = firewall_openings(openings, "firewall_published_ports", translated=True)
    assert rules["networks"] == [
        "ip saddr { 192.0.2.1/32 } meta l4proto tcp ct original proto-dst { 8090 } accept"
    ]


def test_overlapping_networks_become_one() -> None:
    networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/25", "192.0.2.128/25"]
    assert firewall_matches(networks, "daddr", "x") == ["ip daddr { 10.0.0.0/8, 192.0.2.0/24 }"]


@pytest.mark.parametrize(
    ("opening", "message"),
    [
        ({"port": 0}, "firewall_openings: 0 is no port"),
        ({"port": 65536}, "65536 is no port"),
        ({"port": "http"}, "'http' is no port"),
        ({}, "None is no port"),
        ({"port": 80, "protocol": "icmp"}, "'icmp' is no protocol here"),
        ({"port": 80, "networks": ["10.0.0.1/8"]}, "has host bits set"),
        ({"port": 80, "networks": ["} accept"]}, "does not appear to be an IPv4 or IPv6 network"),
        ({"port": 22}, "which is ssh's"),
    ],
)
def test_wrong_opening_is_an_error_that_names_the_argument(
    opening: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="firewall_openings") as raised:
        firewall_openings([opening], "firewall_openings", ssh_port=22)
    assert message in str(raised.value)


def test_egress_is_any_port_or_address_where_none_is_given() -> None:
    destinations: list[dict[str, Any]] = [
        {"networks": ["192.0.2.0/24"]},
        {"port": 53, "protocol": "udp"},
        {"networks": [], "port": 25},
    ]
    assert firewall_egress(destinations) == [
        "ip daddr { 192.0.2.0/24 } tcp dport 0-65535 accept",
        "udp dport 53 accept",
    ]


def test_app_has_its_destinations_and_the_resolvers_that_are_not_the_server() -> None:
    lists: list[dict[str, Any]] = [
        {"interface": "br-shop", "destinations": [{"networks": ["192.0.2.0/24"], "port": 443}]},
        {"interface": "br-mail", "destinations": []},
    ]
    dns = [
        f"ip daddr {{ 198.51.100.53/32 }} {protocol} dport 53 accept" for protocol in ("tcp", "udp")
    ]
    assert firewall_app_egress(lists, ["127.0.0.53", "::1", "198.51.100.53"]) == [
        {
            "interface": "br-shop",
            "chain": "egress-br-shop",
            "rules": [*dns, "ip daddr { 192.0.2.0/24 } tcp dport 443 accept"],
        },
        {"interface": "br-mail", "chain": "egress-br-mail", "rules": dns},
    ]


@pytest.mark.parametrize("interface", ['br-a" accept', "br-0123456789abc", "", "br a"])
def test_interface_that_can_be_none_is_refused(interface: str) -> None:
    with pytest.raises(ValueError, match="firewall_app_egress has the interface"):
        firewall_app_egress([{"interface": interface, "destinations": []}], [])


def test_ports_that_the_first_rules_close_are_told_with_their_programs() -> None:
    found = {"22": "sshd", "80": "nginx", "3306": "mysqld", "8080": "docker-proxy", "53": "named"}
    openings: list[dict[str, Any]] = [{"port": 80}, {"port": 53, "protocol": "udp"}]
    closed = ["53 (named)", "3306 (mysqld)", "8080 (docker-proxy)"]
    assert firewall_closed(found, openings, 22) == closed


def test_list_of_an_app_has_the_services_of_other_hosts() -> None:
    groups = {"all": ["web1", "db1"], "app": ["web1"], "proxy": ["web1"], "postgresql": ["db1"]}
    addresses = {"web1": "10.0.0.1", "db1": "10.0.0.2"}
    app = {**APP, "egress": [{"networks": ["192.0.2.7"], "port": 587}]}
    site = site_of({"apps": [app]}, SECRETS, groups=groups, addresses=addresses)
    [found] = firewall.app_egress(site)
    assert found["interface"] == "br-shop"
    assert [(one["networks"], one["port"]) for one in found["destinations"]] == [
        (["10.0.0.2"], None),
        (["192.0.2.7"], 587),
    ]


def test_ssh_is_for_every_address_or_for_the_listed_ones() -> None:
    assert firewall_ssh_matches(None) is None
    assert firewall_ssh_matches(["192.0.2.7"]) == ["ip saddr { 192.0.2.7/32 }"]
    with pytest.raises(ValueError, match="no one could log in"):
        firewall_ssh_matches([])


def test_interfaces_of_containers_become_a_set() -> None:
    assert firewall_interfaces(["docker0", "br-*"], ["eth0"]) == '{ "docker0", "br-*" }'


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["br-*"], "fits br-lan"),
        (["*"], "is no name of an interface"),
        (['x" }'], "is no name of an interface"),
        (["b*r"], "is no name of an interface"),
        ([], "is empty"),
    ],
)
def test_interfaces_that_would_let_the_world_in_or_are_none_are_refused(
    patterns: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match="firewall_container_interfaces") as raised:
        firewall_interfaces(patterns, ["br-lan"])
    assert message in str(raised.value)


def opened(host: str = "web1", **changes: Any) -> dict[str, Any]:
    site = site_of({"apps": [APP]}, SECRETS, host=host, **changes)
    return {name: function(site) for name, function in firewall.ROLE.arguments.items()}


def test_one_server_is_open_for_the_web_and_its_own_containers_reach_the_database() -> None:
    assert opened() == {
        "firewall_openings": [
            {"port": 80, "protocol": "tcp", "networks": None},
            {"port": 443, "protocol": "tcp", "networks": None},
        ],
        "firewall_published_ports": [
            {"port": 25, "protocol": "tcp", "networks": None},
            {"port": 5353, "protocol": "udp", "networks": None},
        ],
        "firewall_container_openings": [{"port": 5432, "protocol": "tcp", "networks": None}],
        "firewall_app_egress": [],
    }


def test_database_host_is_open_to_the_hosts_of_apps_alone() -> None:
    groups = {"all": ["web1", "db1"], "app": ["web1"], "proxy": ["web1"], "postgresql": ["db1"]}
    addresses = {"web1": "10.0.0.1", "db1": "10.0.0.2"}
    topology: dict[str, Any] = {"groups": groups, "addresses": addresses}
    database = opened("db1", variables={"postgresql_port": 5433}, **topology)
    assert database == {
        "firewall_openings": [{"port": 5433, "protocol": "tcp", "networks": ["10.0.0.1/32"]}],
        "firewall_published_ports": [],
        "firewall_container_openings": [],
        "firewall_app_egress": [],
    }
    assert opened(**topology)["firewall_container_openings"] == []


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({}, 22),
        ({"ansible_host": "192.0.2.1", "ansible_port": "2222"}, 2222),
        ({"ansible_host": "127.0.0.1", "ansible_port": 40022}, 22),
    ],
)
def test_port_of_ssh_is_the_servers_own(variables: dict[str, Any], port: int) -> None:
    page = ROOT / "playbooks/group_vars/all/roles.yml"
    expression = yaml.safe_load(page.read_text())["firewall_ssh_port"]
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template(expression)) == port
