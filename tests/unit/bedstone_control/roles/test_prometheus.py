"""Role prometheus: what it asks, whom Alertmanager tells, and the numbers of its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone.cli.main import COMMANDS
from bedstone_control.roles import alert_rules, alertmanager, prometheus
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import openings
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.roles import GROUPS, site_of

OWN = {"host": "web1", "prometheus": 9090, "alertmanager": 9093}
APP = {
    "name": "shop",
    "source": {"image": "registry.example.com/shop:1"},
    "services": {"web": {"port": 3000}},
    "database": False,
}
SECRETS = {"hooks": {"chat": "https://chat.example.com/x"}}
MAIL = {
    "server": "mail.example.com",
    "port": 587,
    "security": "starttls",
    "user": "bedstone",
    "password": "s3cret",
    "sender": "bedstone@example.com",
}


def hook(**way: Any) -> dict[str, Any]:
    return {"events": ["failure"], "apps": None} | way


def jobs(*targets: dict[str, Any]) -> dict[str, Any]:
    """Return the scrape configurations by job."""
    text = prometheus.prometheus_configuration(targets, OWN, 30, [])
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def told(*hooks: dict[str, Any], mail: Any = MAIL, heartbeat: str = "") -> dict[str, Any]:
    """Return Alertmanager's configuration."""
    return alertmanager.configuration(hooks, mail, heartbeat, 30)


def test_every_role_of_every_host_is_asked_over_tls() -> None:
    given = {"job": "node", "address": "192.0.2.10:9443", "path": "/proxy", "labels": {}}
    role = replace(prometheus.ROLE, targets=lambda _site, host: [given] if host != "db1" else [])
    groups = GROUPS | {"all": ["web1", "web2", "db1"], "monitoring": ["web1"]}
    site = replace(site_of({"apps": [APP]}, SECRETS, groups=groups), roles=(*ROLES, role))
    found = [(one["host"], one["tls"]) for one in prometheus.targets(site) if one["job"] == "node"]
    assert ("web1", True) in found
    assert ("web2", True) in found


def test_exporters_of_role_metrics_are_asked() -> None:
    groups = GROUPS | {"all": ["web1", "watch1"], "monitoring": ["watch1"]}
    addresses = {"web1": "192.0.2.10", "watch1": "192.0.2.11"}
    settings = {"apps": [APP], "metrics": {}}
    site = site_of(settings, SECRETS, groups=groups, addresses=addresses, host="watch1")
    found = {(one["job"], one["host"], one["address"]) for one in prometheus.targets(site)}
    assert ("nginx", "web1", "192.0.2.10:9443") in found
    assert ("node", "watch1", "127.0.0.1:9443") in found


def test_target_keeps_its_labels_and_parameters() -> None:
    found = jobs(
        {
            "job": "redis",
            "host": "web1",
            "address": "[2001:db8::1]:9443",
            "path": "/proxy",
            "params": {"module": "redis"},
            "labels": {"app": "shop"},
            "tls": True,
        }
    )["redis"]
    assert found["static_configs"] == [
        {
            "targets": ["[2001:db8::1]:9443"],
            "labels": {
                "instance": "web1",
                "app": "shop",
                "__metrics_path__": "/proxy",
                "__scheme__": "https",
                "__param_module": "redis",
            },
        }
    ]
    assert found["tls_config"]["cert_file"] == "/etc/bedstone/tls/prometheus.crt"


def test_targets_that_cannot_be_told_apart_are_refused() -> None:
    one = {"job": "own", "host": "web1", "address": "127.0.0.1:1"}
    assert len(jobs(one, one | {"labels": {"part": "second"}})["own"]["static_configs"]) == 2
    with pytest.raises(ValueError, match="two of the job own on web1"):
        jobs(one, one | {"address": "127.0.0.1:2"})


def test_hooks_of_failures_with_webhook_or_mail_hear_of_alerts() -> None:
    found = told(
        hook(webhook="https://chat.example.com/x"),
        hook(events=["release"], webhook="https://chat.example.com/y"),
        hook(command=["/bin/true"]),
        hook(mail=["a@example.com", "b@example.com"], apps=["shop", "desk"]),
    )
    assert [one["name"] for one in found["receivers"]] == ["none", "hook-1", "hook-4"]
    assert [one["to"] for one in found["receivers"][2]["email_configs"]] == [
        "a@example.com",
        "b@example.com",
    ]
    assert found["route"]["routes"][2]["matchers"] == ['app=~"|shop|desk"']
    assert found["route"]["receiver"] == "none"


def test_configuration_holds_no_secret() -> None:
    hooks = [hook(webhook="https://chat.example.com/x-secret"), hook(mail=["a@example.com"])]
    beat = "https://hc.example.com/ping-secret"
    shown = repr(told(*hooks, heartbeat=beat))
    found = alertmanager.secrets(hooks, MAIL, beat)
    assert found == {
        "hook-1": "https://chat.example.com/x-secret",
        "mail-password": "s3cret",
        "heartbeat": beat,
    }
    assert [text for text in found.values() if text in shown] == []


def test_watchdog_goes_to_the_heartbeat_alone() -> None:
    first = told(hook(webhook="https://chat.example.com/x"))["route"]["routes"][0]
    assert (first["receiver"], first["matchers"]) == ("none", ['alertname="Watchdog"'])
    first = told(heartbeat="https://hc.example.com/x")["route"]["routes"][0]
    assert first["receiver"] == "heartbeat"
    assert "continue" not in first


@pytest.mark.parametrize(
    ("port", "security", "works"),
    [
        (587, "starttls", True),
        (465, "tls", True),
        (25, "none", True),
        (587, "tls", False),
        (465, "starttls", False),
    ],
)
def test_tls_that_alertmanager_does_not_speak_is_refused(
    port: int, security: str, *, works: bool
) -> None:
    mail = MAIL | {"port": port, "security": security}
    if works:
        (found,) = told(hook(mail=["a@example.com"]), mail=mail)["receivers"][1]["email_configs"]
        assert found["require_tls"] == (security == "starttls")
    else:
        with pytest.raises(ValueError, match="use"):
            told(hook(mail=["a@example.com"]), mail=mail)


def test_mail_server_may_be_an_ipv6_address() -> None:
    mail = MAIL | {"server": "2001:db8::25"}
    (found,) = told(hook(mail=["a@example.com"]), mail=mail)["receivers"][1]["email_configs"]
    assert found["smarthost"] == "[2001:db8::25]:587"


@pytest.mark.parametrize("url", ["heartbeat", "ftp://hc.example.com/", "https:///x", "http://a\nb"])
def test_heartbeat_is_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="prometheus_heartbeat_url is no URL"):
        alertmanager.secrets([], None, url)


@pytest.mark.parametrize("value", [0, 101, "5", True, 1.5, None])
def test_threshold_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"error_percent is .* from 1 to 100"):
        alert_rules.rule_group({"error_percent": value})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="has no 'errors'"):
        alert_rules.rule_group({"errors": 1})
    with pytest.raises(ValueError, match="no rule 'Nothing'"):
        alert_rules.rule_group({}, ["Nothing"])


def test_threshold_is_in_its_rule() -> None:
    for name in alert_rules.THRESHOLDS:
        usual = alert_rules.rule_group({})["groups"][0]["rules"]
        other = alert_rules.rule_group({name: 77})["groups"][0]["rules"]
        assert usual != other, name


def test_every_threshold_is_in_the_spec_with_its_default() -> None:
    path = ROOT / "roles/prometheus/meta/argument_specs.yml"
    options = yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    described = options["prometheus_thresholds"]["options"]
    assert list(described) == list(alert_rules.THRESHOLDS)
    for name, entry in alert_rules.THRESHOLDS.items():
        assert described[name]["description"].endswith(f"; {entry.default} without it."), name


def test_commands_of_the_rules_exist() -> None:
    """What a rule names can be run: commands of the host program, playbooks."""
    import re

    known = {command if isinstance(command, str) else str(command) for command in COMMANDS}
    for rule in alert_rules.RULES:
        assert rule.command, rule.name
        named = re.findall(r"`(?:[^`]*sudo )?bedstone ([a-z-]+)", rule.command)
        assert sorted(set(named) - known) == [], rule.name
        for playbook in re.findall(r"playbooks/[a-z]+\.yml", rule.command):
            assert (ROOT / playbook).is_file(), rule.name


def test_page_has_the_table_of_the_rules() -> None:
    assert alert_rules.table() in (ROOT / "docs/monitoring.md").read_text()


def test_nothing_is_open() -> None:
    groups = GROUPS | {"monitoring": ["web1"]}
    names = [one["variable"] for one in openings(site_of({"apps": [APP]}, {}, groups=groups))]
    assert not [name for name in names if "prometheus" in name.lower()]


def test_absent_declares_nothing() -> None:
    assert prometheus.prometheus_units("absent") == []
    assert prometheus.prometheus_validators("absent") == []


def test_own_rules_come_last_under_names_that_differ(tmp_path: Path) -> None:
    paths = [str(tmp_path / "a.yml"), str(tmp_path / "b" / "a.yml")]
    text = prometheus.prometheus_configuration([], OWN, 5, paths)
    configuration = yaml.safe_load(text)
    assert configuration["rule_files"] == [
        "/etc/bedstone/prometheus/rules/bedstone.yml",
        "/etc/bedstone/prometheus/rules/own-1.yml",
        "/etc/bedstone/prometheus/rules/own-2.yml",
    ]
    assert configuration["global"]["scrape_timeout"] == "5s"
