"""The settings that the apps' READMEs show are right, complete ones."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from bedstone_control.roles.environment import environment
from bedstone_control.roles.secrets import secrets_of_app
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.roles import site_of

READMES = {
    "payments": ROOT / "app/README.md",
    "guestbook": ROOT / "tests/apps/guestbook/README.md",
    "library": ROOT / "tests/apps/library/README.md",
}
SECRETS = {
    "payments": ["database_migrate_password", "database_password", "secret_key"],
    "guestbook": ["app_key", "database_migrate_password", "database_password"],
    "library": ["database_migrate_password", "database_password", "secret_key"],
}


def shown(name: str) -> dict[str, Any]:
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```", READMES[name].read_text(), re.DOTALL | re.MULTILINE
    )
    settings: dict[str, Any] = yaml.safe_load(block)
    return settings


def variables(name: str) -> dict[str, str]:
    secrets = {"apps": {name: dict.fromkeys(SECRETS[name], "x" * 60)}}
    site = site_of({"apps": shown(name)["bedstone_apps"]}, secrets)
    return environment(site, site.settings.apps[0])


@pytest.mark.parametrize("name", READMES)
def test_the_settings_are_accepted_and_lead_to_the_source(name: str) -> None:
    settings = shown(name)
    assert set(settings) == {"bedstone_apps"}
    given = Settings.model_validate({"apps": settings["bedstone_apps"]})
    (app,) = given.apps
    assert app.name == name
    assert app.source.path is not None
    source = (ROOT / "inventories/production" / app.source.path).resolve()
    assert source == READMES[name].parent
    assert sorted(secrets_of_app(given, name)) == SECRETS[name]


def test_payments_gets_every_variable_that_it_needs_and_none_that_it_does_not_know() -> None:
    example = (ROOT / "app/.env.example").read_text()
    required = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    known = required | set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE))
    given = set(variables("payments"))
    assert required <= given
    assert given <= known | {"DATABASE_URL", "PGSSLROOTCERT"}


def test_guestbook_gets_every_variable_that_it_needs() -> None:
    source = (ROOT / "tests/apps/guestbook/guestbook/config.py").read_text()
    needed = set(re.findall(r'os\.environ\["([A-Z_]+)"\]', source))
    given = variables("guestbook")
    assert set(given) == needed
    assert "sslmode=verify-full" in given["DB_DSN"]
    assert "$" not in "".join(given.values())
