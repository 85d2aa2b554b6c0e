"""A service with a source of its own: checked, described, laid out and given its own secrets."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone.apps import config
from bedstone_control.checks import content, sources
from bedstone_control.checks.context import Context
from bedstone_control.roles import app as app_layout
from bedstone_control.roles.app_config import host_config, image_sources, registry
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import site_of
from tests.unit.fixtures.sites import PUBLIC_KEY

TWO_IMAGES: dict[str, Any] = {
    "name": "shop",
    "domains": ["shop.example.com"],
    "source": {"image": "registry.example.com/shop/api:1", "registry_user": "deploy"},
    "services": {
        "api": {"command": "x", "port": 8000, "route": "/api/"},
        "front-end": {
            "port": 3000,
            "route": "/",
            "source": {
                "git": "git@git.example.com:shop/front.git",
                "version": "v2",
                "host_keys": [PUBLIC_KEY],
            },
            "build": {"secrets": {"NPM_TOKEN": "${secret.npm}"}, "target": "production"},
        },
    },
    "database": False,
}


def test_service_has_an_image_of_its_own() -> None:
    secrets = {"npm": "N", "front_end_deploy_key": "KEY", "registry_password": "P"}
    site = site_of({"apps": [TWO_IMAGES]}, {"apps": {"shop": secrets}})
    (app,) = site.settings.apps
    described = host_config(site, app)
    assert described["image"] == {"kind": "pull", "reference": "registry.example.com/shop/api:1"}
    assert "image" not in described["services"]["api"]
    image = described["services"]["front-end"]["image"]
    assert (image["kind"], image["version"], image["target"]) == ("git", "v2", "production")
    assert {"source", "build"}.isdisjoint(described["services"]["front-end"])
    parsed = config.parse(described)
    assert {name: each.kind for name, each in parsed.images.items()} == {
        "": "pull",
        "front-end": "git",
    }
    needs = image_sources(site, app)["front-end"]
    assert needs["source_secrets"]["secrets"] == {"NPM_TOKEN": "N"}
    assert needs["source_secrets"]["deploy_key"] == "KEY\n"
    assert (needs["source_archive"], needs["registry"]) == (None, None)
    laid = {
        "name": "shop",
        "config": described,
        "environment": {},
        "migrate_environment": {},
        "registry": registry(site, app, app.origins[0]),
        "image_sources": image_sources(site, app),
    }
    files = {file["path"].rpartition("/")[2]: file for file in app_layout.files([laid])}
    for name, text in (("registry.json", "P"), ("source-front-end.json", "KEY")):
        assert text in files[name]["content"]
        assert (files[name]["mode"], files[name]["sensitive"]) == ("0600", True)
    assert app_layout.packages([laid]) == ["git", "openssh-client"]
    wanted = {secret.place[-1] for secret in app_layout.ROLE.secrets(site.settings)}
    assert {"front_end_deploy_key", "registry_password", "npm"} <= wanted
    assert "deploy_key" not in wanted


@pytest.mark.parametrize(
    ("service", "place", "message"),
    [
        ({"source": {}}, "source", "One of `path`, `git`"),
        ({"source": {"image": "a:1"}, "build": {"target": "x"}}, "build", "no effect"),
        ({"build": {"target": "x"}}, "build", "belongs to a `source` of the service"),
        ({"source": {"git": "https://git.example.com/x.git"}}, "source", "needs a `version`"),
        ({"source": {"path": "nowhere"}}, "source", "nowhere"),
    ],
)
def test_source_of_a_service_is_checked_like_an_app_s(
    service: dict[str, Any], place: str, message: str
) -> None:
    app = {
        **TWO_IMAGES,
        "services": {"web": {"port": 80, **service}},
        "source": {"image": "a/b:1"},
    }
    context = Context({"bedstone_apps": [app]})
    found = list(sources.check(context, Settings.model_validate({"apps": [app]})))
    places = [problem.where for problem in found if message in problem.message]
    assert places == [f"bedstone_apps[shop].services.web.{place}"], found


@pytest.mark.parametrize("service", ["front-end", None])
def test_static_command_runs_in_the_apps_image_alone(service: str | None) -> None:
    static = {"path": "/app/static", "url": "/static/"} | ({"service": service} if service else {})
    secrets = {"npm": "N", "front_end_deploy_key": "KEY", "registry_password": "P"}
    site = site_of({"apps": [{**TWO_IMAGES, "static": static}]}, {"apps": {"shop": secrets}})
    described = host_config(site, site.settings.apps[0])
    assert described["static"] == static
    collect = ["python", "manage.py", "collectstatic", "--noinput"]
    assert described["commands"]["static"] == ([] if service else [collect])
    parsed = config.parse(described)
    assert parsed.static is not None
    assert parsed.static.service == service


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, []),
        ({"commands": {"static": []}}, []),
        ({"commands": []}, []),
        ({"commands": {"static": "make static"}}, ["commands.static"]),
        ({"static": {"path": "/s", "url": "/s/", "service": "api"}}, ["static.service"]),
        ({"static": {"path": "/s", "url": "/s/", "service": "frontend"}}, ["static.service"]),
    ],
)
def test_service_of_static_files_has_an_image_and_no_command(
    changes: dict[str, Any], places: list[str]
) -> None:
    static = {"path": "/app/.next/static", "url": "/_next/static/", "service": "front-end"}
    app = {**TWO_IMAGES, "static": static, **changes}
    found = content.check(
        Context({"bedstone_apps": [app]}), Settings.model_validate({"apps": [app]})
    )
    assert [problem.where for problem in found] == [f"bedstone_apps[shop].{at}" for at in places]
