"""The seed systems' inventories: accepted, complete, and each as its document has it."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bedstone.apps import config
from bedstone_control.inventory import create
from bedstone_control.roles import app as app_layout
from bedstone_control.roles.environment import environment
from bedstone_control.roles.nginx import nginx_site_files
from bedstone_control.roles.rabbitmq import rabbitmq_definitions
from bedstone_control.roles.redis import redis_files
from bedstone_control.roles.registry import arguments, groups
from tests.unit.bedstone_control.roles.test_app_units import UNITS, unit
from tests.unit.fixtures import seeds
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.seeds import NAMES, SEEDS, Seed
from tests.unit.fixtures.sites import PUBLIC_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSTEMS = ["coffee-payments", "internal-payment", "kore", "piggy-bank", "srq-hpn"]
STAGES = [f"piggy-bank/{stage}" for stage in ("development", "staging", "production")]


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Seed]]:
    """Return a function that makes a seed's inventory, each once."""
    made: dict[str, Seed] = {}
    home, checkout = (tmp_path_factory.mktemp(name) for name in ("home", "checkout"))
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519.pub").write_text(f"{PUBLIC_KEY}\n")

    def make(name: str) -> Seed:
        if name not in made:
            made[name] = seeds.make(name, checkout)
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        yield make


def test_every_system_has_its_inventory() -> None:
    assert sorted({name.partition("/")[0] for name in NAMES}) == SYSTEMS


@pytest.mark.parametrize("name", NAMES)
def test_preflight_accepts_it(seed: Callable[[str], Seed], name: str) -> None:
    assert [str(problem) for problem in seed(name).check()] == []


@pytest.mark.parametrize("name", NAMES)
def test_all_arguments_are_computed(seed: Callable[[str], Seed], name: str) -> None:
    assert seed(name).arguments.keys() == arguments().keys()


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_those_that_the_settings_need(seed: Callable[[str], Seed], name: str) -> None:
    settings = seed(name).site.settings
    needed = {group.name for group in groups() if group.needed(settings)}
    # A host that collects the metrics is a choice of those that give them out.
    watched = {"monitoring"} if settings.metrics is not None else set()
    assert needed <= seed(name).groups.keys() - {"all", "ungrouped"} <= needed | watched


@pytest.mark.parametrize("name", NAMES)
def test_environment_has_no_placeholder_left(seed: Callable[[str], Seed], name: str) -> None:
    system = seed(name)
    for migrate in (False, True):
        values = environment(system.site, system.app, migrate=migrate)
        assert values
        assert [key for key, value in values.items() if "${" in value or "{{" in value] == []


@pytest.mark.parametrize("name", NAMES)
def test_server_reads_its_configuration_and_units(seed: Callable[[str], Seed], name: str) -> None:
    (app,) = seed(name).arguments["app_apps"]
    read = config.parse(app["config"])
    files = {file["path"]: file for file in app_layout.files([app])}
    assert json.loads(files[f"/etc/bedstone/apps/{read.name}/app.json"]["content"]) == app["config"]
    for service in app["config"]["services"]:
        path = f"{UNITS}/bedstone-{read.name}-{service}@.service"
        assert unit(files[path])["Service"]["ExecStart"].endswith(f"{read.name} {service} %i")


@pytest.mark.parametrize("name", NAMES)
def test_files_of_nginx_redis_and_rabbitmq_are_made(seed: Callable[[str], Seed], name: str) -> None:
    system, found = seed(name), seed(name).arguments
    assert nginx_site_files(found["nginx_sites"], found["nginx_upstreams"])
    if system.app.redis:
        instances, admin = found["redis_instances"], found["redis_admin_password"]
        assert redis_files(instances, admin, "valkey")
    if system.app.rabbitmq:
        assert json.loads(rabbitmq_definitions(found["rabbitmq_users"]))["permissions"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_page_has_the_commands(system: str) -> None:
    page = (SEEDS / system / "README.md").read_text()
    inventory = "inventories/seeds/" + (
        "piggy-bank/production" if system == "piggy-bank" else system
    )
    for command in ("site.yml", "deploy.yml", "rollback.yml", "backup.yml", "restore.yml"):
        assert f"playbooks/{command} -i {inventory}" in page
    name = inventory.removeprefix("inventories/")
    assert f"python -m bedstone_control secrets {name}" in page


@pytest.mark.parametrize("name", NAMES)
def test_page_names_the_secrets_that_only_an_operator_has(
    seed: Callable[[str], Seed], name: str
) -> None:
    page = (SEEDS / name.partition("/")[0] / "README.md").read_text()
    for place in seed(name).missing:
        assert f"`{place}`" in page


# --- Each as its document has it ---


def routes(system: Seed) -> dict[str, str]:
    """Return the services by their routes."""
    (site,) = system.arguments["nginx_sites"]
    return {
        route["path"]: route["upstream"].removeprefix(f"{system.app.name}-")
        for route in site["routes"]
    }


def test_internal_payment(seed: Callable[[str], Seed]) -> None:
    system = seed("internal-payment")
    app, backup = system.app, system.site.settings.backup
    assert app.database is not None
    assert {name: (s.port, s.health) for name, s in app.services.items()} == {
        "backend": (8000, "/health/")
    }
    values = environment(system.site, app)
    assert values["POSTGRES_DB"] == "internal_payment"
    # The stand-in knows each variable that the document sets, and gets all that it requires.
    example = (ROOT / "app" / ".env.example").read_text()
    required = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    known = required | set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE))
    assert set(app.env) <= known
    assert required <= set(values)
    assert app.static is not None
    assert app.media is not None
    assert app.restore_point == "always"
    assert (backup.time, backup.keep_days, backup.keep_weeks, backup.keep_months) == (
        "02:00",
        30,
        0,
        0,
    )
    assert system.missing == []


def test_coffee_payments(seed: Callable[[str], Seed]) -> None:
    system = seed("coffee-payments")
    values = environment(system.site, system.app)
    assert system.app.services["web"].health == "/health"
    assert (values["DB_NAME"], values["DB_HOST"]) == ("coffee_payments", "postgres")
    assert values["POSTGRES_SSL_MODE"] == "verify-full"
    assert values["POSTGRES_SSL_ROOT_CERT"] == "/run/bedstone/ca.crt"
    assert values["POSTGRES_SSL_CERT"] == "/run/bedstone/postgresql/postgresql.crt"
    assert values["POSTGRES_SSL_KEY"] == "/run/bedstone/postgresql/postgresql.key"
    assert values["CELERY_BROKER_URL"].startswith("redis://")
    # One environment for all: the workers' connections are as the web server's.
    assert system.app.services["worker"].port is None


def test_piggy_bank_has_its_services(seed: Callable[[str], Seed]) -> None:
    system = seed("piggy-bank/production")
    services = system.app.services
    assert services["web"].replicas == services["worker"].replicas == 2
    assert "django_celery_beat.schedulers:DatabaseScheduler" in (services["beat"].command or [])
    assert services["web"].health == "/health"
    assert {service.restarts.most for service in services.values() if service.restarts} == {10}
    assert all(service.restarts for service in services.values())
    values = environment(system.site, system.app)
    cache, broker = values["REDIS_URL"], values["CELERY_BROKER_URL"]
    assert cache != broker
    assert broker == values["REDIS_STORE_URL"]


def test_environments_of_piggy_bank_differ_only_in_values(seed: Callable[[str], Seed]) -> None:
    own = [
        yaml.safe_load((SEEDS / name / "group_vars/all/environment.yml").read_text())
        for name in STAGES
    ]
    assert all(set(values) == set(own[0]) for values in own)
    links = [SEEDS / name / create.SETTINGS_FILE for name in STAGES]
    assert {link.resolve() for link in links} == {SEEDS / "piggy-bank" / "settings.yml"}
    # No authority issues a certificate for .localhost: there the value is null.
    found = [shape(seed(name).input["settings"]) | {"acme": None} for name in STAGES]
    assert [seed(name).site.settings.acme is None for name in STAGES] == [True, False, False]
    assert found[0] == found[1] == found[2]
    domains = [seed(name).app.domains[0] for name in STAGES]
    assert domains == ["octoco.localhost", "staging.octoco.app", "api.octoco.app"]
    levels = [seed(name).app.env["LOG_LEVEL"] for name in STAGES]
    assert levels == ["DEBUG", "INFO", "WARNING"]
    keys = {environment(seed(name).site, seed(name).app)["SECRET_KEY"] for name in STAGES}
    assert len(keys) == len(STAGES), "each has a vault of its own"


def shape(value: Any) -> Any:
    """Return a value with its texts left out: keys, numbers and the lengths of lists."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__ if isinstance(value, str) else value


def test_srq_hpn(seed: Callable[[str], Seed]) -> None:
    system = seed("srq-hpn")
    assert routes(system) == {"/api/": "api", "/": "web"}
    assert system.app.commands.migrate == [["alembic", "upgrade", "head"]]
    (app,) = system.arguments["app_apps"]
    assert app["config"]["migrations"] == "alembic"
    (site,) = system.arguments["nginx_sites"]
    assert site["static"]["url"] == "/_next/static/"
    running = environment(system.site, system.app)
    migrating = environment(system.site, system.app, migrate=True)
    assert re.match(r"postgresql://srq_hpn_app_[0-9a-f]{8}:", running["DATABASE_URL_ADMIN"])
    front = app["service_environments"].pop("web")
    assert (front["HOSTNAME"], front["NEXT_PUBLIC_API_BASE_URL"]) == ("0.0.0.0", "")
    secrets = [running[name] for name in ("POSTGRES_PASSWORD", "SECRET_KEY")]
    assert not [name for name, text in front.items() if any(secret in text for secret in secrets)]
    assert not app["service_environments"]
    assert migrating["DATABASE_URL_ADMIN"].startswith("postgresql://srq_hpn_migrate:")
    openings = {(entry["port"], entry.get("networks")) for entry in opened(system)}
    assert openings == {(80, None), (443, None)}


def test_tunnel_of_srq_hpn_ends_where_postgresql_takes_it(seed: Callable[[str], Seed]) -> None:
    found = seed("srq-hpn").arguments
    readme = (SEEDS / "srq-hpn/README.md").read_text()
    assert "ssh -L 5433:localhost:5432 operator@" in readme
    assert "localhost" in found["postgresql_listen_addresses"]
    allowed = [ip_network(network) for network in found["postgresql_allowed_networks"]]
    for address in ("127.0.0.1", "::1"):
        assert any(ip_address(address) in network for network in allowed)


def opened(system: Seed) -> list[dict[str, Any]]:
    """Return the ports that the firewall opens to everyone."""
    found: list[dict[str, Any]] = system.arguments["firewall_openings"]
    return [entry for entry in found if entry.get("networks") is None]


def test_kore(seed: Callable[[str], Seed]) -> None:
    system = seed("kore")
    app = system.app
    values = environment(system.site, app)
    instances = {entry["name"]: entry for entry in system.arguments["redis_instances"]}
    assert instances["kore-store"]["persistent"]
    assert not instances["kore-cache"]["persistent"]
    assert instances["kore-cache"]["eviction"] == "allkeys-lru"
    (user,) = system.arguments["rabbitmq_users"]
    assert user["vhost"] == "/kore"
    assert values["CELERY_BROKER_URL"].endswith("/%2Fkore")
    assert values["CELERY_RESULT_BACKEND"] == values["REDIS_STORE_URL"]
    assert values["POSTGRES_DB"] == "kore_production"
    assert values["POSTGRES_HOST"] == "pgbouncer"
    assert values["POSTGRES_POOL_MODE"] == "transaction"
    assert environment(system.site, app, migrate=True)["POSTGRES_HOST"] == "postgres"
    assert system.arguments["pgbouncer_databases"] == [{"name": "kore_production", "size": 10}]
    scaled = {name: s.replicas for name, s in app.services.items() if s.replicas != 1}
    assert scaled == {"celery-worker": 5}
    assert app.services["django"].health == "/api/v1/health/"
    own = environment(system.site, app, service="django")
    assert own.keys() - values.keys() == {
        "WEB_CONCURRENCY",
        "GUNICORN_TIMEOUT",
        "STRIPE_SECRET_KEY",
    }
    assert app.static is not None
    assert app.media is not None
    assert system.arguments["backup_media"] == [
        {"app": "kore", "directory": "/srv/bedstone/kore/media", "copy_every_minutes": 15}
    ]
    assert [there["name"] for there in system.arguments["backup_destinations"]] == ["offsite"]
    assert system.site.settings.backup.keep_days == 30
    assert system.variables["rabbitmq_memory_mb"] == 614
    assert {entry["port"] for entry in opened(system)} == {80, 443}
