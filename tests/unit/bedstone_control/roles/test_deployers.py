"""Deployers: what sudo lets them do, and their keys."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bedstone_control.roles.deployers import deployer_directories, deployer_files, deployers
from tests.unit.fixtures.roles import site_of
from tests.unit.fixtures.sites import PUBLIC_KEY

APPS = ["shop", "a-b"]
DEPLOY: dict[str, Any] = {"name": "deploy", "authorized_keys": [PUBLIC_KEY], "apps": APPS}


def expressions() -> list[re.Pattern[str]]:
    sudoers = deployer_files([DEPLOY])[0]["content"]
    return [re.compile(each) for each in re.findall(r"bedstone (\^.*?\$)", sudoers)]


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ("release shop", True),
        ("release a-b --json --if-changed", True),
        ("rollback shop 20261120_101500-v1 --json", True),
        ("status shop", True),
        ("status", False),
        ("release shopping", False),
        ("release shop --accept x", False),
        ("release shop --foreground", False),
        ("rollback shop --old-secrets", False),
        ("rollback shop -x", False),
        ("restore shop", False),
    ],
)
def test_sudo_allows_what_it_should(arguments: str, allowed: bool) -> None:  # noqa: FBT001
    patterns = expressions()
    assert len(patterns) == 3
    assert any(each.fullmatch(arguments) for each in patterns) is allowed


def test_files_are_roots_and_keys_are_restricted() -> None:
    key = f'from="192.0.2.7" {PUBLIC_KEY}'
    sudoers, keys = deployer_files([{**DEPLOY, "authorized_keys": [PUBLIC_KEY, key]}])
    assert (sudoers["path"], sudoers["mode"]) == ("/etc/sudoers.d/55-bedstone-deploy", "0440")
    assert "owner" not in keys
    assert keys["content"].splitlines() == [f"restrict {PUBLIC_KEY}", f"restrict,{key}"]
    paths = [each["path"] for each in deployer_directories([DEPLOY])]
    assert paths == ["/home/deploy", "/home/deploy/.ssh"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "root"}, "can't be an account"),
        ({"name": "ALL"}, "can't be an account"),
        ({"name": "x ALL=(ALL) NOPASSWD: ALL\n"}, "can't be an account"),
        ({"apps": ["shop$, ALL"]}, "can't be the name of an app"),
        ({"apps": [".*"]}, "can't be the name of an app"),
        ({"apps": []}, "has no apps"),
        ({"authorized_keys": ["no key"]}, "no public key"),
        ({"authorized_keys": [f"{PUBLIC_KEY}\n{PUBLIC_KEY}"]}, "no public key"),
    ],
)
def test_what_could_become_another_rule_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deployer_files([DEPLOY | change])


def test_account_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'deploy' twice"):
        deployer_files([DEPLOY, DEPLOY])


def test_accounts_are_on_the_hosts_of_apps_alone() -> None:
    app = {"name": "shop", "source": {"image": "x"}, "services": {"web": {"port": 1}}}
    settings = {"apps": [app], "deployers": [DEPLOY]}
    groups = {"all": ["web1", "db1"], "app": ["web1"]}
    addresses = {"web1": "192.0.2.1", "db1": "192.0.2.2"}
    given: dict[str, Any] = {"groups": groups, "addresses": addresses}
    assert deployers(site_of(settings, {}, **given)) == [DEPLOY]
    assert deployers(site_of(settings, {}, host="db1", **given)) == []
