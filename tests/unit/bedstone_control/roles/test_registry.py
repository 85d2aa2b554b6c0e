"""The registry agrees with the roles' folders, and a role is added in a few places."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import Stage, defaults, openings
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.roles import site_of

APP = {
    "name": "shop",
    "domains": ["shop.example.com"],
    "source": {"image": "registry.example.com/shop:1"},
    "services": {"web": {"port": 3000}},
}
SECRETS = {"database_password": "p", "database_migrate_password": "m", "secret_key": "k"}
every_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def options(role: str) -> dict[str, Any]:
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"].get("options", {})
    return found


def test_every_role_but_preflight_is_listed() -> None:
    folders = {path.parent.name for path in (ROOT / "roles").glob("*/meta")}
    assert {role.name for role in ROLES} == folders - {"preflight"}


def test_roles_are_in_the_order_of_their_stages() -> None:
    stages = [role.stage for role in ROLES]
    assert stages == sorted(stages)
    assert set(stages) == set(Stage)


@every_role
def test_all_arguments_are_those_of_the_role(role: Any) -> None:
    given = {*role.arguments, *role.expressions, *role.variables}
    given |= {port.variable for port in role.ports} - {"ansible_port"}
    assert given <= set(options(role.name))


@every_role
def test_assumed_defaults_are_those_of_the_role(role: Any) -> None:
    path = ROOT / "roles" / role.name / "defaults" / "main.yml"
    own = yaml.safe_load(path.read_text())
    assumed = {name: value for name, value in defaults([role]).items() if name != "ansible_port"}
    assert assumed == {name: own[name] for name in assumed}


@every_role
def test_role_accepts_what_it_is_given(role: Any) -> None:
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

    site = site_of({"apps": [APP]}, {"apps": {"shop": SECRETS}})
    for name, function in role.arguments.items():
        option = {name: options(role.name)[name]}
        result = ArgumentSpecValidator(option).validate({name: function(site)})
        assert result.error_messages == [], name


def test_openings_are_what_others_may_reach() -> None:
    groups = {"all": ["web1", "db1"], "app": ["web1"], "proxy": ["web1"], "postgresql": ["db1"]}
    site = site_of(
        {"apps": [APP]},
        {"apps": {"shop": SECRETS}},
        groups=groups,
        host="db1",
        addresses={"web1": "10.0.0.1", "db1": "10.0.0.2"},
        variables={"postgresql_port": "5433"},
    )
    found = {each["port"]: each["networks"] for each in openings(site)}
    assert found == {22: None, 5433: ["10.0.0.1/32"]}
    (web,) = (each for each in openings(site_of({"apps": [APP]}, {})) if each["port"] == 443)
    assert web["networks"] is None
