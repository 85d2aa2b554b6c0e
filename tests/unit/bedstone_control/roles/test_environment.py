"""Environment variables and placeholders of an app."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from bedstone.apps import config
from bedstone_control import names
from bedstone_control.roles import app as app_role
from bedstone_control.roles import app_config
from bedstone_control.roles import environment as roles_environment
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.secrets import secrets_of_app
from bedstone_control.settings import placeholders
from bedstone_control.settings.app import App
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import GROUPS, site_of

SECRETS = {"secret_key": "k", "database_password": "p/w@1", "database_migrate_password": "m"}


LOGIN = names.app_login("pay_me", "p/w@1")


def environment(app: App, secrets: dict[str, str], *, migrate: bool = False, **given: Any) -> Any:
    """Return an app's environment; `given` are arguments of roles from the inventory."""
    settings = {"apps": [app.model_dump(exclude_unset=True)]}
    site = site_of(settings, {"apps": {app.name: secrets}}, variables=given)
    return roles_environment.environment(site, site.settings.apps[0], migrate=migrate)


def required_secrets(app: App) -> list[str]:
    return sorted(secrets_of_app(Settings.model_validate({"apps": [app]}), app.name))


def app(**changes: Any) -> App:
    base = {
        "name": "pay-me",
        "domains": ["pay.example.com", "pay.example.org"],
        "source": {"image": "a:1"},
        "services": {"web": {"port": 8000}},
    }
    return App.model_validate(base | changes)


def test_app_gets_the_usual_variables() -> None:
    found = environment(app(), SECRETS)
    assert found["POSTGRES_DB"] == "pay_me"
    assert found["POSTGRES_USER"] == LOGIN
    assert found["POSTGRES_PASSWORD"] == "p/w@1"
    assert found["POSTGRES_HOST"] == "postgres"
    assert found["POSTGRES_SSL_MODE"] == "verify-full"
    assert found["POSTGRES_SSL_ROOT_CERT"] == "/run/bedstone/ca.crt"
    assert found["SECRET_KEY"] == "k"
    assert found["ALLOWED_HOSTS"] == "pay.example.com,pay.example.org"
    assert found["CSRF_TRUSTED_ORIGINS"] == "https://pay.example.com,https://pay.example.org"


def test_fallback_is_the_key_before_the_rotation_and_never_empty() -> None:
    assert environment(app(), SECRETS)["SECRET_KEY_FALLBACKS"] == "k"
    settings = {"apps": [app().model_dump(exclude_unset=True)]}
    vault = {"apps": {"pay-me": SECRETS}, "previous": {"apps": {"pay-me": {"secret_key": "old"}}}}
    site = site_of(settings, vault)
    for migrate in (False, True):
        found = roles_environment.environment(site, site.settings.apps[0], migrate=migrate)
        assert (found["SECRET_KEY"], found["SECRET_KEY_FALLBACKS"]) == ("k", "old")


@pytest.mark.parametrize("key", [None, "${secret.own}", "plain"])
def test_fallback_goes_with_the_default_secret_key(key: str | None) -> None:
    given = app(env={"SECRET_KEY": key})
    assert "SECRET_KEY_FALLBACKS" not in environment(given, {**SECRETS, "own": "o"})
    assert "secret_key" not in required_secrets(given)


def test_previous_value_of_a_secret_is_offered_and_no_secret_of_its_own() -> None:
    given = app(env={"KEYS": "${secret.own},${secret.own.previous}"})
    assert environment(given, {**SECRETS, "own": "o"})["KEYS"] == "o,o"
    needed = secrets_of_app(Settings.model_validate({"apps": [given]}), "pay-me")
    assert needed["own"].keeps_previous
    assert "own.previous" not in needed
    assert "KEYS" in roles_environment.secret_variables(given, ROLES)


def test_database_url_survives_any_password() -> None:
    url = urlsplit(environment(app(), SECRETS)["DATABASE_URL"])
    assert url.scheme == "postgresql"
    assert unquote(url.password or "") == "p/w@1"
    assert (url.username, url.hostname, url.port) == (LOGIN, "postgres", 5432)
    assert url.path == "/pay_me"
    assert parse_qs(url.query) == {
        "sslmode": ["verify-full"],
        "sslrootcert": ["/run/bedstone/ca.crt"],
    }


def test_migrations_come_as_their_own_role() -> None:
    found = environment(app(), SECRETS, migrate=True)
    assert found["POSTGRES_USER"] == "pay_me_migrate"
    assert found["POSTGRES_PASSWORD"] == "m"
    assert "pay_me_migrate:m@" in found["DATABASE_URL"]
    assert found["SECRET_KEY"] == "k"


def test_other_names_are_mapped_by_a_line() -> None:
    found = environment(
        app(default_env=False, env={"DB": "${database.user}@${database.host}", "X": "$${y}"}),
        SECRETS,
    )
    assert found == {"DB": f"{LOGIN}@postgres", "X": "${y}"}


def test_login_is_another_one_with_each_password_app_and_the_same_for_the_same() -> None:
    assert "pay_me_app_" + LOGIN[-8:] == LOGIN
    assert int(LOGIN[-8:], 16) >= 0
    others = {names.app_login("pay_me", "p/w@2"), names.app_login("shop", "p/w@1")}
    assert len({name[-8:] for name in (LOGIN, *others)}) == 3
    names.password_tag.cache_clear()
    assert names.app_login("pay_me", "p/w@1") == LOGIN
    assert len(names.app_login("d" * 50, "p")) == 63


def test_with_a_client_certificate_the_role_itself_logs_in() -> None:
    found = environment(app(database={"client_certificate": True}), SECRETS)
    assert found["POSTGRES_USER"] == "pay_me_app"
    assert "//pay_me_app:" in found["DATABASE_URL"]
    assert found["PGSSLCERT"] == "/run/bedstone/postgresql/postgresql.crt"


def test_variables_with_the_login_are_named() -> None:
    own = {"DSN": "user=${database.user} host=${database.host}", "URL": "${database.postgres_url}"}
    assert roles_environment.login_variables(app(env=own), ROLES) == [
        "DATABASE_URL",
        "DSN",
        "POSTGRES_USER",
        "URL",
    ]
    assert (
        roles_environment.login_variables(
            app(default_env=False, env={"DB_HOST": "${database.host}"}), ROLES
        )
        == []
    )


def test_what_changes_with_a_password_is_a_secret_or_a_login() -> None:
    """A rollback takes today's values of those alone: an earlier user has no longer a password."""
    settings = {
        "apps": [
            {
                "name": "pay-me",
                "source": {"image": "a:1"},
                "services": {"web": {"port": 8000}},
                "database": {"replica": True, "pool": True},
                "redis": {"cache": True, "store": True},
                "rabbitmq": True,
            }
        ]
    }
    needed = secrets_of_app(Settings.model_validate(settings), "pay-me")
    groups = {name: ["web1"] for name in ("all", "redis", "rabbitmq", "postgresql_replica")}
    values = []
    for password in ("first", "second"):
        secrets = {name: f"{password}-{name}" for name in needed}
        site = site_of(settings, {"apps": {"pay-me": secrets}}, groups=GROUPS | groups)
        values.append(roles_environment.placeholder_values(site, site.settings.apps[0]))
    changed = {name for name, value in values[0].items() if values[1][name] != value}
    assert {"database.user", "rabbitmq.user", "redis.store.url"} <= changed
    known = roles_environment.known_placeholders(ROLES)
    rotating = {name for name, item in known.items() if item.secret or item.login}
    assert {name for name in changed if not name.startswith("secret.")} <= rotating


def test_variable_with_the_brokers_user_is_named_without_a_database_too() -> None:
    given = app(database=False, rabbitmq=True, env={"BROKER_USER": "${rabbitmq.user}"})
    site = site_of(
        {"apps": [given.model_dump(exclude_unset=True)]},
        {"apps": {"pay-me": {"secret_key": "k", "rabbitmq_password": "p" * 32}}},
        groups=GROUPS | {"rabbitmq": ["web1"]},
    )
    found = app_config.host_config(site, site.settings.apps[0])
    assert found["login_variables"] == ["BROKER_USER"]


def test_default_is_overridden_or_taken_away() -> None:
    found = environment(app(env={"SECRET_KEY": "own", "DATABASE_URL": None}), SECRETS)
    assert found["SECRET_KEY"] == "own"
    assert "DATABASE_URL" not in found


def test_app_without_a_database_gets_none_of_its_variables() -> None:
    found = environment(app(database=False), {"secret_key": "k"})
    assert not [name for name in found if name.startswith(("POSTGRES_", "DATABASE_"))]


def test_database_url_names_an_unusual_port() -> None:
    found = environment(app(), SECRETS, postgresql_port=5433)
    assert urlsplit(found["DATABASE_URL"]).port == 5433
    assert found["POSTGRES_PORT"] == "5433"


def test_origins_name_an_unusual_port() -> None:
    found = environment(app(), SECRETS, nginx_https_port=8443)
    assert found["CSRF_TRUSTED_ORIGINS"].startswith("https://pay.example.com:8443,")
    assert found["ALLOWED_HOSTS"].startswith("pay.example.com,")


def test_own_secret_is_used_and_needed() -> None:
    with_key = app(env={"STRIPE": "${secret.stripe_key}"})
    assert environment(with_key, SECRETS | {"stripe_key": "s"})["STRIPE"] == "s"
    assert "stripe_key" in required_secrets(with_key)
    with pytest.raises(ValueError, match=r"variable STRIPE: Unknown placeholder"):
        environment(with_key, SECRETS)


def test_missing_secret_is_named() -> None:
    with pytest.raises(ValueError, match="no database_password for the app pay-me"):
        environment(app(), {"secret_key": "k"})


def test_only_needed_secrets_are_required() -> None:
    assert required_secrets(app()) == [
        "database_migrate_password",
        "database_password",
        "secret_key",
    ]
    assert required_secrets(app(database=False)) == ["secret_key"]
    assert required_secrets(app(database=False, default_env=False)) == []
    assert required_secrets(app(database=False, env={"SECRET_KEY": None})) == []
    in_file = app(
        database=False,
        default_env=False,
        files=[{"target": "/k", "content": "${secret.k}${app.secret_key}"}],
    )
    assert required_secrets(in_file) == ["k", "secret_key"]
    login = app(
        database=False, default_env=False, source={"image": "a.b/c:1", "registry_user": "me"}
    )
    assert required_secrets(login) == ["registry_password"]


def test_every_default_variable_has_a_known_placeholder() -> None:
    texts = roles_environment.variables(app(), ROLES).values()
    values = {name for text in texts for name in placeholders.used(text)}
    assert values <= set(roles_environment.known_placeholders(ROLES))


def test_service_has_variables_of_its_own() -> None:
    services = {
        "web": {"port": 8000, "env": {"STRIPE": "${secret.stripe}", "LEVEL": "2", "DSN": None}},
        "worker": {"env": {"SECRET_KEY": None}},
        "beat": {},
    }
    env = {"LEVEL": "1", "DSN": "${database.url}", "GONE": None}
    given = app(env=env, services=services)
    secrets = {**SECRETS, "stripe": "s"}
    vault = {"apps": {"pay-me": secrets}}
    site = site_of({"apps": [given.model_dump(exclude_unset=True)]}, vault)
    common = environment(given, secrets)
    web = roles_environment.environment(site, given, service="web")
    assert web == {**{k: v for k, v in common.items() if k != "DSN"}, "LEVEL": "2", "STRIPE": "s"}
    worker = roles_environment.environment(site, given, service="worker")
    assert common.keys() - worker.keys() == {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}
    assert roles_environment.environment(site, given, service="beat") == common
    assert {"STRIPE", "DSN"} <= set(roles_environment.secret_variables(given, ROLES))
    assert {"stripe", "secret_key"} <= set(required_secrets(given))

    (made,) = app_role.arguments(site)
    assert made["service_environments"] == {"web": web, "worker": worker}
    host = config.parse(made["config"])
    assert host.services["web"].environment_file == "/etc/bedstone/apps/pay-me/service-web.env"
    assert host.services["beat"].environment_file is None
    assert "STRIPE" not in json.dumps(made["config"]["services"])
    files = {file["path"]: file for file in app_role.files([made])}
    own = files["/etc/bedstone/apps/pay-me/service-web.env"]
    assert (own["mode"], own["sensitive"]) == ("0600", True)
    assert "STRIPE=s\n" in own["content"]
    assert "STRIPE" not in files["/etc/bedstone/apps/pay-me/app.env"]["content"]
    assert "STRIPE" not in files["/etc/bedstone/apps/pay-me/migrate.env"]["content"]
