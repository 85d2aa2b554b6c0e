"""app.json: what is read, and what is said about a wrong one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import config
from bedstone.core.errors import ConfigError
from tests.unit.fixtures.server import APP

WRONG = [
    ("schema", 2, "schema is 2"),
    ("name", "Shop", "name holds 'Shop'"),
    ("services", {}, "services is empty"),
    ("services", {"Web": {}}, "services holds 'Web'"),
    ("services", {"web": {"port": 0}}, "services.web.port is 0"),
    ("services", {"web": {"port": True}}, "services.web.port is True"),
    ("services", {"web": {"port": 80, "replicas": 65}}, "services.web.replicas is 65"),
    ("services", {"web": {"port": 80, "health": "health"}}, "services.web.health is 'health'"),
    ("services", {"web": {"route": "/"}}, "has a route or a health path but no port"),
    ("services", {"web": {"command": "serve"}}, "services.web.command is 'serve'; a list"),
    ("services", {"web": {"cpus": -1}}, "services.web.cpus is -1"),
    ("image", {"kind": "guess"}, "image.kind is 'guess'; it is one of build, git, pull, load"),
    ("image", {"kind": "git", "version": "x"}, "image.url is None"),
    ("image", {"kind": "build", "archive": "x", "args": {"A": 1}}, "image.args.A is 1"),
    ("commands", {"check": ["manage check"]}, "commands.check is 'manage check'; a list"),
    ("mounts", [{"source": "/x"}], "mounts: target is None"),
    ("static", "/app/static", "static is '/app/static'; an object"),
    ("read_only", "yes", "read_only is 'yes'; it is true or false"),
    ("database", {"name": "shop"}, "database.owner is None"),
]


def changed(key: str, value: Any) -> dict[str, Any]:
    app = copy.deepcopy(APP)
    app[key] = value
    return app


def test_reads_the_whole_description() -> None:
    app = config.parse(APP)
    assert [service.name for service in app.http_services] == ["web", "api"]
    assert app.slot_keys("green") == ["web@green", "api@green", "worker@1", "worker@2"]
    assert app.services["web"].command == ("serve",)
    assert app.commands.migrate == (("manage", "migrate"),)
    assert app.main_domain == "shop.example.com"


def test_replicas_of_a_service_with_a_port_have_slots_on_both_sides() -> None:
    app = config.parse(changed("services", {"web": {"port": 80, "replicas": 3}}))
    assert app.slot_keys("blue") == ["web@blue", "web@blue-2", "web@blue-3"]
    assert app.slot_keys("green") == ["web@green", "web@green-2", "web@green-3"]


def test_media_may_be_private() -> None:
    app = config.parse(changed("media", {"path": "/app/media", "url": None}))
    assert app.media == config.Files("/app/media", None)


def test_main_domain_is_no_wildcard() -> None:
    app = config.parse(changed("domains", ["*.example.com", "example.com"]))
    assert app.main_domain == "example.com"
    assert config.parse(changed("domains", ["*.example.com"])).main_domain is None


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=lambda part: str(part)[:40])
def test_wrong_description_is_told_with_its_place(key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(changed(key, value), "/etc/app.json")
    assert caught.value.message.startswith("/etc/app.json: ")
    assert words in caught.value.message


def test_unknown_schema_says_that_the_versions_differ() -> None:
    with pytest.raises(ConfigError, match="don't fit each other"):
        config.parse({"schema": 9})


def test_file_that_is_no_json_is_told(root: Path) -> None:
    path = root / "app.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"app\.json isn't JSON"):
        config.load_file(path)


def test_declared_apps_are_sorted(root: Path) -> None:
    for name in ("wiki", "shop"):
        (root / "etc/bedstone/apps" / name).mkdir(parents=True)
        (root / "etc/bedstone/apps" / name / "app.json").write_text(json.dumps(APP))
    (root / "etc/bedstone/apps/empty").mkdir()
    assert config.declared() == ["shop", "wiki"]
