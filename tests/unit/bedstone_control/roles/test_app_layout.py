"""What role app lays out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bedstone.apps import config
from bedstone_control.roles import app as app_layout
from tests.unit.fixtures.server import APP

SHOP: dict[str, Any] = {
    "name": "shop",
    "config": APP,
    "environment": {"SECRET": "x", "KEY": "a\nb"},
    "migrate_environment": {"SECRET": "y"},
    "source_archive": "/controller/shop.tar.gz",
    "files": [{"path": "/etc/bedstone/apps/shop/files/0-saml.xml", "content": "<x/>"}],
    "registry": {"server": "r", "username": "u", "password": "p"},
}


def laid_out(app: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {file["path"]: file for file in app_layout.files([app])}


def test_description_is_what_the_program_reads() -> None:
    files = laid_out(SHOP)
    text = files["/etc/bedstone/apps/shop/app.json"]["content"]
    assert config.parse(json.loads(text)) == config.parse(APP)


def test_everything_secret_is_for_root_alone_and_in_no_diff() -> None:
    files = laid_out(SHOP)
    for name in ("app.env", "migrate.env", "registry.json"):
        file = files[f"/etc/bedstone/apps/shop/{name}"]
        assert (file["mode"], file["sensitive"]) == ("0600", True)
    assert files["/etc/bedstone/apps/shop/files/0-saml.xml"]["sensitive"] is True
    directories = {entry["path"]: entry["mode"] for entry in app_layout.directories([SHOP])}
    assert directories["/etc/bedstone/apps"] == "0700"
    assert directories["/srv/bedstone/shop"] == "0755"


def test_archive_goes_where_the_description_says() -> None:
    file = laid_out(SHOP)["/var/lib/bedstone/apps/shop/source.tar.gz"]
    assert file["source"] == "/controller/shop.tar.gz"


def test_each_service_has_a_unit_with_time_to_start_and_stop() -> None:
    files = laid_out(SHOP)
    units = [path for path in files if path.startswith("/etc/systemd/system/bedstone-shop-")]
    assert units == [f"/etc/systemd/system/bedstone-shop-{n}@.service" for n in APP["services"]]
    services = {"slow": {"health_timeout_seconds": 900, "stop_seconds": 300}}
    app = SHOP | {"config": APP | {"services": services}}
    unit = laid_out(app)["/etc/systemd/system/bedstone-shop-slow@.service"]
    assert unit["variables"]["start_seconds"] > 900 + 300
    assert unit["variables"]["stop_seconds"] > 300


def test_app_without_source_files_or_login_has_none() -> None:
    app = SHOP | {"source_archive": None, "files": [], "registry": None}
    common = len(app_layout.COMMON_UNITS)
    assert len(laid_out(app)) == common + 3 + len(APP["services"])


def test_git_is_installed_when_a_source_needs_it() -> None:
    assert app_layout.packages([SHOP]) == []
    git = SHOP | {"config": APP | {"image": {"kind": "git", "url": "x", "version": "y"}}}
    assert app_layout.packages([SHOP, git]) == ["git", "openssh-client"]


def test_impossible_variable_is_told_with_its_app() -> None:
    with pytest.raises(ValueError, match="App shop: 'A B' can't be the name"):
        app_layout.files([SHOP | {"environment": {"A B": "x"}}])


@pytest.mark.parametrize(
    ("only", "names"),
    [((), ["shop", "wiki"]), ("", ["shop", "wiki"]), ("wiki", ["wiki"]), (["shop"], ["shop"])],
)
def test_only_the_named_apps_are_released(only: list[str] | str, names: list[str]) -> None:
    assert app_layout.released([{"name": "shop"}, {"name": "wiki"}], only) == names


def test_unknown_app_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no app 'shpo'.*Did you mean shop\?"):
        app_layout.released([{"name": "shop"}], "shpo")
