"""The table of an app's variables is the environment that is built, without a secret."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedstone_control import cli
from bedstone_control.roles import environment, environment_table
from bedstone_control.roles.environment_table import MASK, OWN, SAME, Variable
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.secrets import secrets_of_app
from bedstone_control.roles.site import Site
from bedstone_control.settings.app import App
from bedstone_control.settings.root import Settings
from tests.unit.fixtures import seeds
from tests.unit.fixtures.roles import site_of

FEATURES: dict[str, Any] = {
    "database": True,
    "redis": {"cache": True, "store": True},
    "rabbitmq": True,
}
GROUPS = {name: ["web1"] for name in ("all", "app", "proxy", "postgresql", "redis", "rabbitmq")}
DEFAULTS = sorted(environment.default_variables(ROLES))
KNOWN = sorted(set(environment.known_placeholders(ROLES)) - {"secret.NAME", "secret.NAME.previous"})
OWN_SECRETS = ["secret.stripe", "secret.stripe.previous", "secret.mail"]


def app_of(**changes: Any) -> dict[str, Any]:
    base = {
        "name": "pay-me",
        "domains": ["pay.example.com"],
        "source": {"image": "a:1"},
        "services": {"web": {"port": 8000}},
    }
    return base | changes


def site_with_secrets(app: dict[str, Any]) -> tuple[Site, list[str]]:
    """Return a site of an app whose secrets are random, and these."""
    names = secrets_of_app(Settings.model_validate({"apps": [app]}), app["name"])
    own = {name: secrets.token_hex(16) for name in names}
    before = {name: secrets.token_hex(16) for name in names}
    vault = {"apps": {app["name"]: own}, "previous": {"apps": {app["name"]: before}}}
    return site_of({"apps": [app]}, vault, groups=GROUPS), [*own.values(), *before.values()]


@st.composite
def apps(draw: st.DrawFn) -> dict[str, Any]:
    """Return an app with any of the features, and variables that use what these offer."""
    chosen = draw(st.sets(st.sampled_from(sorted(FEATURES))))
    features = {name: FEATURES[name] for name in chosen}
    app = App.model_validate(app_of(**features))
    offered = {
        name
        for offer in environment.offers(ROLES)
        if offer.used_by(app)
        for name in offer.placeholders
    }
    places = st.sampled_from(
        [f"${{{name}}}" for name in [*OWN_SECRETS, *sorted(offered)] if "NAME" not in name]
    )
    pieces = places | st.sampled_from(["$${", "a", " ", "http://", "|", "`", "é", "="])
    values = st.none() | st.lists(pieces, max_size=4).map("".join)
    names = st.sampled_from([*DEFAULTS, "LOG_LEVEL", "API_TOKEN", "A", "B"])
    env = draw(st.dictionaries(names, values, max_size=6))
    return app_of(**features, env=env, default_env=draw(st.booleans()))


@settings(deadline=None, max_examples=40)
@given(apps())
def test_table_is_exactly_what_the_app_gets(declared: dict[str, Any]) -> None:
    site, hidden = site_with_secrets(declared)
    (app,) = site.settings.apps
    real = environment.environment(site, app)
    migrate = environment.environment(site, app, migrate=True)
    table = environment_table.table(site, app)
    assert [item.name for item in table] == sorted(real) == sorted(migrate)
    printed = environment_table.markdown(app.name, table) + environment_table.as_json(
        {app.name: table}
    )
    assert not [value for value in hidden if value in printed]
    for item in table:
        holds = any(value in real[item.name] + migrate[item.name] for value in hidden)
        assert not holds or item.secret
        assert (item.migrations == SAME) is (real[item.name] == migrate[item.name])
        if item.value != MASK and "${" not in item.value:
            assert item.value == real[item.name]
        assert ("env" in item.origin) is (item.name in app.env)


def rows(**changes: Any) -> dict[str, Variable]:
    site, _ = site_with_secrets(app_of(**changes))
    return {item.name: item for item in environment_table.table(site, site.settings.apps[0])}


def test_origin_is_the_setting_or_the_role_that_offers_it() -> None:
    found = rows(database=True, env={"LOG_LEVEL": "INFO", "POSTGRES_HOST": "db"})
    assert found["LOG_LEVEL"].origin == "bedstone_apps[pay-me].env"
    assert found["POSTGRES_HOST"].origin == "bedstone_apps[pay-me].env, in place of a default"
    assert found["POSTGRES_DB"].origin == "default of role postgresql for a database"
    assert found["ALLOWED_HOSTS"].origin == "default of role app"


def test_values_are_shown_but_for_secrets() -> None:
    found = rows(database=True, env={"KEY": "x-${secret.stripe}"})
    assert found["POSTGRES_DB"] == Variable(
        "POSTGRES_DB", "default of role postgresql for a database", False, SAME, "pay_me"
    )
    assert (found["KEY"].secret, found["KEY"].value) == (True, "x-${secret.stripe}")
    assert (found["DATABASE_URL"].value, found["DATABASE_URL"].migrations) == (
        "${database.url}",
        OWN,
    )
    # It has another name with each password, so it tells of that.
    assert found["POSTGRES_USER"].value == "${database.user}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRIPE_KEY", "sk_live_1"),
        ("SMTP_PASSWORD", "hunter2"),
        ("API_TOKEN", "abc"),
        ("SENTRY_DSN", "https://abc@example.com/1"),
        ("UPSTREAM", "https://user:pass@example.com"),
        ("X", "$ANSIBLE_VAULT;1.1;AES256 6162"),
        ("Y", "-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_secret_that_stands_in_the_settings_is_masked(name: str, value: str) -> None:
    item = rows(env={name: value})[name]
    assert (item.secret, item.value) == (True, MASK)


def test_unknown_placeholder_is_named() -> None:
    with pytest.raises(ValueError, match=r"variable A: Unknown placeholder \$\{nothing\}"):
        rows(env={"A": "${nothing}"})


@pytest.mark.parametrize("name", seeds.NAMES)
def test_seeds_are_told_without_their_vault(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(seeds.SEEDS / name)
    assert cli.main(["environment", directory, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out).values()
    assert len(table) > 10
    assert not [item for item in table if "{{" in item["value"]]


def test_command_prints_a_table_and_names_the_apps(capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(seeds.SEEDS / "kore")
    assert cli.main(["environment", directory, "kore"]) == 0
    assert "| `RABBITMQ_URL` | " in capsys.readouterr().out
    assert cli.main(["environment", directory, "other"]) == 1
    assert "It has kore." in capsys.readouterr().err
