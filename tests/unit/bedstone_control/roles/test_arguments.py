"""From settings to the roles' arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.apps import config
from bedstone_control import names
from bedstone_control.roles import registry
from bedstone_control.roles.app_config import host_config
from bedstone_control.roles.nginx import nginx_site_files
from bedstone_control.roles.secrets import new_secrets
from bedstone_control.roles.site import Site
from tests.unit.fixtures.roles import site_of

if TYPE_CHECKING:
    from collections.abc import Callable


ARGUMENTS = registry.arguments()

APPS: list[dict[str, Any]] = [
    {
        "name": "pay-me",
        "domains": ["pay.example.com", "www.pay.example.com"],
        "source": {"path": "app"},
        "services": {
            "web": {"command": "gunicorn config.wsgi", "port": 8000, "health": "/health/"},
            "worker": {"command": "celery worker", "replicas": 2},
        },
        "static": "/app/staticfiles",
        "media": {"path": "/app/media", "url": None},
        "files": [{"target": "/app/k.pem", "content": "${secret.pem}"}],
    },
    {
        "name": "shop",
        "domains": ["shop.example.com"],
        "source": {"image": "registry.example.com/shop:1", "registry_user": "deploy"},
        "services": {
            "web": {"port": 3000, "route": "/"},
            "api": {"port": 3001, "route": "/api/"},
        },
        "database": False,
        "default_env": False,
        "commands": [],
        "tls": {"certificate": "files/shop.crt", "key": "files/shop.key"},
    },
]


LOGIN = names.app_login("pay_me", "p")


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    return {
        "settings": {"apps": APPS, "operator": None, "timezone": None},
        "secrets": {
            "apps": {
                "pay-me": {
                    "secret_key": "k",
                    "database_password": "p",
                    "database_migrate_password": "m",
                    "pem": "x\ny",
                },
                "shop": {"registry_password": "r"},
            }
        },
        "groups": {"all": ["web1"], "app": ["web1"], "proxy": ["web1"], "postgresql": ["web1"]},
        "host": "web1",
        "addresses": {"web1": "192.0.2.10"},
        "inventory_directory": str(tmp_path),
        "cache_directory": str(tmp_path / "cache"),
    }


@pytest.fixture
def site(variables: dict[str, Any]) -> Site:
    return Site.from_variables(variables, registry.ROLES)


LOOPBACK = ["127.0.0.1/32", "::1/128"]


def test_host_program_reads_what_is_written_for_it(site: Site) -> None:
    for app in ARGUMENTS["app_apps"](site):
        read = config.parse(app["config"])
        assert read.name == app["name"]


def test_config_of_an_app_built_from_source(site: Site) -> None:
    found = host_config(site, site.settings.apps[0])
    assert found["schema"] == 1
    assert found["image"] == {
        "kind": "build",
        "archive": "/var/lib/bedstone/apps/pay-me/source.tar.gz",
        "dockerfile": "Dockerfile",
        "args": {},
        "target": None,
        "default_dockerfile": False,
    }
    assert found["services"]["web"]["route"] == "/"
    assert found["services"]["worker"]["route"] is None
    assert found["services"]["worker"]["replicas"] == 2
    assert found["hosts"] == {"postgres": "172.17.0.1"}
    assert found["database"] == {
        "name": "pay_me",
        "owner": "pay_me_owner",
        "role": "pay_me_app",
        "login": LOGIN,
    }
    assert found["login_variables"] == ["DATABASE_URL", "POSTGRES_USER"]
    assert found["environment_file"] == "/etc/bedstone/apps/pay-me/app.env"
    assert found["mounts"] == [
        {"source": "/etc/bedstone/tls/ca.crt", "target": "/run/bedstone/ca.crt"},
        {"source": "/etc/bedstone/apps/pay-me/files/0-k.pem", "target": "/app/k.pem"},
    ]


def test_config_of_a_ready_image(site: Site) -> None:
    found = host_config(site, site.settings.apps[1])
    assert found["image"] == {"kind": "pull", "reference": "registry.example.com/shop:1"}
    assert found["commands"] == {"check": [], "migrate": [], "static": [], "console": None}
    assert found["hosts"] == {}
    assert found["database"] is None


def test_app_s_files_environments_and_login(site: Site) -> None:
    first, second = ARGUMENTS["app_apps"](site)
    assert first["files"] == [
        {"path": "/etc/bedstone/apps/pay-me/files/0-k.pem", "content": "x\ny"}
    ]
    assert Path(first["source_archive"]).is_file()
    assert first["environment"]["POSTGRES_USER"] == LOGIN
    assert first["migrate_environment"]["POSTGRES_USER"] == "pay_me_migrate"
    assert first["registry"] is None
    assert second["source_archive"] is None
    assert second["registry"] == {
        "server": "registry.example.com",
        "username": "deploy",
        "password": "r",
    }


def test_migrations_and_static_files_only_where_there_are_any(variables: dict[str, Any]) -> None:
    app = {**APPS[1], "commands": {}}
    variables["settings"]["apps"] = [app]
    found = host_config(*_first(variables))["commands"]
    assert found["migrate"] == []
    assert found["static"] == []
    assert found["check"]


def test_project_without_a_dockerfile_is_served_by_gunicorn(
    variables: dict[str, Any], django: Callable[..., Path]
) -> None:
    app = {**APPS[0], "source": {"path": str(django())}, "build": {"args": {"BASE_IMAGE": "x:1"}}}
    app["services"] = {"web": {"port": 8001}, "worker": {"command": "python manage.py work"}}
    variables["settings"]["apps"] = [app]
    found = host_config(*_first(variables))
    command = found["services"]["web"]["command"]
    assert command[:4] == ["gunicorn", "config.wsgi", "--bind", "0.0.0.0:8001"]
    assert found["services"]["worker"]["command"] == ["python", "manage.py", "work"]
    assert found["image"]["default_dockerfile"]
    assert found["image"]["dockerfile"] == ".bedstone/Dockerfile"
    assert found["image"]["args"] == {"BASE_IMAGE": "x:1"}


def _first(variables: dict[str, Any]) -> tuple[Site, Any]:
    site = Site.from_variables(variables, registry.ROLES)
    return site, site.settings.apps[0]


def test_nginx_sites(site: Site) -> None:
    first, second = ARGUMENTS["nginx_sites"](site)
    assert first["domains"] == ["pay.example.com", "www.pay.example.com"]
    assert first["certificate"] == "/etc/bedstone/tls/pay-me.crt"
    assert first["routes"] == [{"path": "/", "upstream": "pay-me-web"}]
    assert first["static"] == {
        "url": "/static/",
        "directory": "/srv/bedstone/pay-me/static/current",
    }
    assert first["media"] is None  # no URL: only the app hands it out
    assert {route["path"]: route["upstream"] for route in second["routes"]} == {
        "/": "shop-web",
        "/api/": "shop-api",
    }
    assert second["certificate"] == "/etc/nginx/bedstone/tls/shop.crt"
    assert ARGUMENTS["nginx_upstreams"](site) == ["pay-me-web", "shop-web", "shop-api"]


def test_passwords_reach_role_nginx_as_hashes_of_what_the_vault_holds(
    variables: dict[str, Any],
) -> None:
    edge = {"basic_auth": ["alice"], "paths": [{"path": "/hooks/", "basic_auth": []}]}
    app = {**APPS[0], "edge": edge, "redirects": ["p.example.com"]}
    variables["settings"]["apps"] = [app]
    made = new_secrets({"apps": [app]})["bedstone_secrets"]["apps"]["pay-me"]
    password = made["basic_auth_alice"]
    assert len(password) >= 20
    variables["secrets"]["apps"]["pay-me"]["basic_auth_alice"] = password
    site, _ = _first(variables)
    (found,) = ARGUMENTS["nginx_sites"](site)
    assert found["basic_auth"]["alice"].startswith("$7$")
    assert password not in str(found)
    assert found["paths"] == [{"path": "/hooks/", "basic_auth": {}}]
    assert found["health_paths"] == ["/health/"]
    files = nginx_site_files([found], ARGUMENTS["nginx_upstreams"](site))
    assert [f["sensitive"] for f in files if "/auth/" in f["path"]] == [True]
    assert ARGUMENTS["ca_certificates"](site)[-1]["names"][-1] == "p.example.com"


def test_certificates_only_where_no_own_ones_are_given(site: Site) -> None:
    found = {item["name"]: item for item in ARGUMENTS["ca_certificates"](site)}
    assert set(found) == {"postgresql", "pay-me"}
    assert found["postgresql"]["names"] == ["postgres", "localhost", "web1", "192.0.2.10"]
    assert found["pay-me"]["names"] == ["pay.example.com", "www.pay.example.com"]
    own = ARGUMENTS["nginx_certificate_files"](site)
    assert [item["name"] for item in own] == ["shop"]
    assert own[0]["key"] == str(site.inventory_directory / "files/shop.key")


def test_app_gets_a_certificate_of_its_role_and_its_migrations_one_of_theirs(
    variables: dict[str, Any],
) -> None:
    first, *others = variables["settings"]["apps"]
    asking = first | {"database": {"client_certificate": True}}
    variables["settings"] |= {"apps": [asking, *others]}
    site = Site.from_variables(variables, registry.ROLES)
    (declared,) = ARGUMENTS["postgresql_databases"](site)
    assert (declared["app_login"], declared["client_certificate"]) == (None, True)
    issued = {item["name"]: item for item in ARGUMENTS["ca_certificates"](site)}
    for role in ("pay_me_app", "pay_me_migrate"):
        name = f"{role}/postgresql"
        assert issued[name] == {"name": name, "common_name": role, "usage": "client"}
    first, other = ARGUMENTS["app_apps"](site)
    config = first["config"]
    assert config["database"] == {"name": "pay_me", "owner": "pay_me_owner"}
    assert first["environment"]["POSTGRES_USER"] == "pay_me_app"
    mount = {"target": "/run/bedstone/postgresql", "group": "ssl-cert"}
    assert {"source": "/etc/bedstone/tls/pay_me_app", **mount} in config["mounts"]
    assert config["migrate_mounts"] == [{"source": "/etc/bedstone/tls/pay_me_migrate", **mount}]
    for environment in (first["environment"], first["migrate_environment"]):
        assert environment["POSTGRES_SSL_KEY"] == "/run/bedstone/postgresql/postgresql.key"
        assert "&sslcert=/run/bedstone/postgresql/postgresql.crt&" in environment["DATABASE_URL"]
    assert "migrate_mounts" not in other["config"]
    assert "POSTGRES_SSL_KEY" not in other["environment"]


def test_databases_have_their_roles_and_a_login(site: Site) -> None:
    assert ARGUMENTS["postgresql_databases"](site) == [
        {
            "name": "pay_me",
            "owner": "pay_me_owner",
            "migrate_role": "pay_me_migrate",
            "migrate_password": "m",
            "app_role": "pay_me_app",
            "app_password": "p",
            "app_login": LOGIN,
            "client_certificate": False,
            "extensions": [],
            "lock_timeout_seconds": 5,
            "connections": None,
            "pool_size": None,
            "settings": {},
        }
    ]
    assert ARGUMENTS["backup_databases"](site) == [
        {"app": "pay-me", "name": "pay_me", "owner": "pay_me_owner"}
    ]
    assert ARGUMENTS["backup_media"](site) == [
        {"app": "pay-me", "directory": "/srv/bedstone/pay-me/media"}
    ]


def test_uploads_that_are_copied_between_backups_say_how_often() -> None:
    media = {"path": "/app/media", "url": "/media/", "copy_every_minutes": 15}
    app = {"name": "shop", "source": {"image": "a:1"}, "services": {"web": {"port": 8000}}}
    site = site_of({"apps": [{**app, "database": False, "media": media}]}, {"apps": {}})
    assert ARGUMENTS["backup_media"](site) == [
        {"app": "shop", "directory": "/srv/bedstone/shop/media", "copy_every_minutes": 15}
    ]
    # A release has nothing to do with it.
    assert "copy_every_minutes" not in str(host_config(site, site.settings.apps[0]))


def test_uploads_that_something_else_copies_are_in_no_backup() -> None:
    media = {"path": "/app/media", "url": "/media/", "backup": False}
    app = {"name": "shop", "source": {"image": "a:1"}, "services": {"web": {"port": 8000}}}
    site = site_of({"apps": [{**app, "database": False, "media": media}]}, {"apps": {}})
    assert ARGUMENTS["backup_media"](site) == []
    found = host_config(site, site.settings.apps[0])
    assert found["media"] == media


def test_backups_are_kept_as_the_settings_say(site: Site) -> None:
    kept = (
        ARGUMENTS["backup_keep_days"],
        ARGUMENTS["backup_keep_weeks"],
        ARGUMENTS["backup_keep_months"],
    )
    assert [function(site) for function in kept] == [30, 8, 6]


def test_on_one_server_postgresql_answers_to_its_containers_alone(site: Site) -> None:
    assert ARGUMENTS["postgresql_listen_addresses"](site) == ["localhost", "172.17.0.1"]
    assert ARGUMENTS["postgresql_allowed_networks"](site) == [
        *LOOPBACK,
        "172.17.0.0/16",
        "172.20.0.0/14",
    ]
    assert ARGUMENTS["postgresql_after_units"](site) == ["network-online.target", "docker.service"]


def test_complete_servers_side_by_side_keep_their_databases_to_themselves(
    variables: dict[str, Any],
) -> None:
    both = ["web1", "web2"]
    variables["groups"] = {"app": both, "proxy": both, "postgresql": both}
    variables["addresses"] = {"web1": "10.0.0.1", "web2": "10.0.0.2"}
    for host in both:
        site = Site.from_variables(variables | {"host": host}, registry.ROLES)
        assert ARGUMENTS["postgresql_listen_addresses"](site) == ["localhost", "172.17.0.1"]
        assert ARGUMENTS["postgresql_allowed_networks"](site) == [
            *LOOPBACK,
            "172.17.0.0/16",
            "172.20.0.0/14",
        ]


def test_database_on_a_server_of_its_own(variables: dict[str, Any]) -> None:
    variables["groups"] = {"app": ["web1"], "proxy": ["web1"], "postgresql": ["db1"]}
    variables["addresses"] = {"web1": "10.0.0.1", "db1": "10.0.0.2"}
    site, app = _first(variables)
    assert host_config(site, app)["hosts"] == {"postgres": "10.0.0.2"}
    assert [item["name"] for item in ARGUMENTS["ca_certificates"](site)] == ["pay-me"]
    database = Site.from_variables(variables | {"host": "db1"}, registry.ROLES)
    assert ARGUMENTS["postgresql_listen_addresses"](database) == ["localhost", "10.0.0.2"]
    assert ARGUMENTS["postgresql_allowed_networks"](database) == [*LOOPBACK, "10.0.0.1/32"]
    assert ARGUMENTS["postgresql_after_units"](database) == ["network-online.target"]
    assert [item["name"] for item in ARGUMENTS["ca_certificates"](database)] == ["postgresql"]


def test_servers_that_hold_everything_keep_to_themselves(variables: dict[str, Any]) -> None:
    both = ["web1", "web2"]
    variables["groups"] = {"app": both, "proxy": both, "postgresql": both}
    variables["addresses"] = {"web1": "10.0.0.1", "web2": "10.0.0.2"}
    site, app = _first(variables)
    assert host_config(site, app)["hosts"] == {"postgres": "172.17.0.1"}


def test_base_gets_operator_time_and_authorities(variables: dict[str, Any]) -> None:
    empty = Site.from_variables(variables, registry.ROLES)
    assert ARGUMENTS["base_operator_name"](empty) == ""
    assert ARGUMENTS["base_operator_authorized_keys"](empty) == []
    assert ARGUMENTS["base_timezone"](empty) == "Etc/UTC"
    variables["settings"] |= {
        "operator": {"name": "alice", "authorized_keys": ["ssh-ed25519 A"]},
        "extra_ca_certificates": ["files/ca.crt"],
    }
    full = Site.from_variables(variables, registry.ROLES)
    assert ARGUMENTS["base_operator_name"](full) == "alice"
    assert ARGUMENTS["base_operator_authorized_keys"](full) == ["ssh-ed25519 A"]
    assert ARGUMENTS["base_extra_ca_certificates"](full) == [
        str(full.inventory_directory / "files/ca.crt")
    ]
