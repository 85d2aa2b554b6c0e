"""Lists of destinations that don't hold for an app's containers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedstone.apps import slots
from bedstone.core import paths
from bedstone.watch import egress
from tests.unit.fixtures.daily import APP, root

__all__ = ["root"]


@pytest.fixture
def limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server with an app that has a list, rules for it, and its interface."""
    file = paths.app_config("shop")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**APP, "limited": True}))
    rules = root / "var/lib/bedstone/firewall/confirmed.nft"
    rules.parent.mkdir(parents=True)
    rules.write_text('iifname "br-shop" goto egress-br-shop\n')
    (root / "sys/class/net/br-shop").mkdir(parents=True)
    monkeypatch.setattr(slots, "serving", lambda _app: ("r1", "blue"))
    return root


def said() -> list[str]:
    return [alarm.words for alarm in egress.judge(egress.gather(), datetime.now(UTC))]


@pytest.mark.usefixtures("limited")
def test_list_that_holds_is_silent() -> None:
    assert said() == []


def test_rules_that_do_not_know_the_app_are_red(limited: Path) -> None:
    (limited / "var/lib/bedstone/firewall/confirmed.nft").unlink()
    [words] = said()
    assert words.endswith("more than `egress` lists: the firewall has no rules for it")


def test_network_with_another_interface_is_red_and_says_how_to_make_it_again(
    limited: Path,
) -> None:
    (limited / "sys/class/net/br-shop").rmdir()
    [alarm] = egress.judge(egress.gather(), datetime.now(UTC))
    assert (alarm.name, alarm.severity, alarm.app) == ("egress/shop", "red", "shop")
    assert "made by an earlier version" in alarm.words
    assert "systemctl stop 'bedstone-shop-*@*' && bedstone restart shop" in alarm.command


def test_app_that_does_not_serve_yet_and_one_without_a_list_are_silent(
    limited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (limited / "sys/class/net/br-shop").rmdir()
    with monkeypatch.context() as patch:
        patch.setattr(slots, "serving", lambda _app: None)
        assert said() == []
    paths.app_config("shop").write_text(json.dumps(APP))
    assert said() == []
