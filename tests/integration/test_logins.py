"""Logins of an app in PostgreSQL: which are dropped, and what is left of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedstone.apps import config
from bedstone.core import paths
from bedstone.core.errors import RefusedError
from bedstone.ledger import database as ledger
from bedstone.postgres.server import Server
from bedstone.release import plans
from bedstone.release.context import Rollout
from bedstone.release.steps import logins
from tests.integration.cluster import Cluster
from tests.unit.fixtures.server import APP, declare
from tests.unit.fixtures.server import Server as Machine

ROLE, OLD, NEW = "shop_app", "shop_app_00000001", "shop_app_00000002"
Release = Callable[..., Rollout]


@pytest.fixture
def machine(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A server whose app logs in as NEW, and had two logins before."""
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(logins, "SESSIONS_END_SECONDS", 0.5)
    monkeypatch.setattr(logins, "backup_settings", _Settings(cluster.server))
    monkeypatch.setattr(logins, "server_of", lambda settings: settings)
    cluster.server.execute(
        f"CREATE ROLE shop_owner; CREATE DATABASE shop_data OWNER shop_owner;"
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'x'; CREATE ROLE someone LOGIN;"
        f"CREATE ROLE {OLD} LOGIN IN ROLE {ROLE}; ALTER ROLE {OLD} SET role = {ROLE};"
        f"CREATE ROLE {NEW} LOGIN IN ROLE {ROLE}; CREATE ROLE shop_apps_1 LOGIN IN ROLE {ROLE};"
    )
    made = Machine(tmp_path)
    database = {"name": "shop_data", "owner": "shop_owner", "role": ROLE, "login": NEW}
    declare(made, app={**APP, "database": database})
    log_in_as(paths.app_config("shop").with_name("app.env"), NEW)
    yield made
    cluster.server.execute(
        "DROP DATABASE shop_data WITH (FORCE);"
        f"DROP ROLE IF EXISTS {OLD}, {NEW}, shop_apps_1, {ROLE}, shop_owner, someone;"
    )


class _Settings:
    """Says that the app's data is in the cluster."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def of_app(self, name: str) -> Server | None:
        return self.server if name == "shop" else None


@pytest.fixture
def release(machine: Machine) -> Iterator[Release]:
    """Make a rollout whose release logs in as a role."""
    with ledger.opened() as connection:

        def make(login: str) -> Rollout:
            directory = paths.release("shop", "r1")
            directory.mkdir(parents=True, exist_ok=True)
            for name in ("app.env", "migrate.env"):
                log_in_as(directory / name, login)
            return Rollout(config.load("shop"), "r1", 1, None, machine.host(), connection)

        yield make


def log_in_as(path: Path, login: str) -> None:
    path.write_text(f"APP=shop_app.settings\nDATABASE_URL=postgresql://{login}:p@postgres/shop\n")


def can_log_in(cluster: Cluster) -> set[str]:
    # Other tests' roles are in the same cluster.
    query = (
        "SELECT to_json(rolname::text) FROM pg_roles"
        " WHERE rolcanlogin AND rolname ~ '^(shop_apps?(_|$)|someone$)'"
    )
    return set(cluster.server.rows(query))


def test_what_nothing_uses_is_dropped(cluster: Cluster, release: Release) -> None:
    cluster.server.execute(f"SET ROLE {OLD}; SELECT lo_create(4711);", "shop_data")
    said = logins.drop_unused(release(NEW))
    assert said == f"{ROLE} can't log in any more, {OLD} dropped"
    assert can_log_in(cluster) == {NEW, "shop_apps_1", "someone"}
    left = "SELECT to_json(pg_get_userbyid(lomowner)::text) FROM pg_largeobject_metadata"
    assert cluster.server.rows(left, "shop_data") == [ROLE]
    stored = "SELECT to_json(rolpassword) FROM pg_authid WHERE rolname = 'shop_app'"
    assert cluster.server.rows(stored) == []
    assert logins.drop_unused(release(NEW)) == "nothing to drop"


def test_login_that_was_made_for_the_next_release_stays(
    cluster: Cluster, machine: Machine, release: Release
) -> None:
    app = {"name": "shop_data", "owner": "shop_owner", "role": ROLE, "login": OLD}
    declare(machine, app={**APP, "database": app})
    log_in_as(paths.app_config("shop").with_name("app.env"), OLD)
    cluster.server.execute(f"COMMENT ON ROLE {ROLE} IS 'logs in as {NEW}';")
    assert logins.drop_unused(release(OLD)) == f"{ROLE} can't log in any more"
    assert {OLD, NEW} <= can_log_in(cluster)
    cluster.server.execute(f"COMMENT ON ROLE {ROLE} IS NULL;")
    assert f"{NEW} dropped" in logins.drop_unused(release(OLD))


@pytest.mark.parametrize("used", [OLD, ROLE])
def test_what_the_serving_release_uses_stays(cluster: Cluster, release: Release, used: str) -> None:
    said = logins.drop_unused(release(used))
    assert used not in said.split()
    assert used in can_log_in(cluster)


def test_what_a_running_container_uses_stays(
    cluster: Cluster, machine: Machine, release: Release
) -> None:
    machine.variables["bedstone-shop-web-blue"] = ["PATH=/bin", f"DB_USER={OLD}"]
    assert OLD not in logins.drop_unused(release(NEW))
    assert OLD in can_log_in(cluster)


@pytest.fixture
def session(cluster: Cluster, machine: Machine) -> Iterator[Callable[[str], str]]:
    """Open a session as OLD by the socket, and return a function that runs a line in it."""
    assert machine
    server = cluster.server
    opened = subprocess.Popen(
        [
            "psql",
            "-XAtq",
            "-h",
            server.socket,
            "-p",
            str(server.port),
            "-U",
            OLD,
            "-d",
            "shop_data",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run(line: str) -> str:
        assert opened.stdin is not None
        assert opened.stdout is not None
        opened.stdin.write(f"{line}\n")
        opened.stdin.flush()
        return opened.stdout.readline()

    yield run
    opened.kill()
    opened.communicate()


def test_login_with_open_sessions_stays_and_is_told(
    cluster: Cluster, release: Release, session: Callable[[str], str]
) -> None:
    assert session("BEGIN; SELECT current_user;") == f"{ROLE}\n"
    assert f"{OLD} stays: 1 sessions of it are open" in logins.drop_unused(release(NEW))
    assert OLD in can_log_in(cluster)
    assert session("COMMIT; SELECT 'ended';") == "ended\n"
    assert f"{OLD} dropped" in logins.drop_unused(release(NEW))


def test_session_that_pgbouncer_keeps_open_keeps_no_login(
    cluster: Cluster, release: Release, session: Callable[[str], str]
) -> None:
    assert session("SELECT current_user;") == f"{ROLE}\n"
    assert f"{OLD} dropped" in logins.drop_unused(release(NEW))
    assert OLD not in can_log_in(cluster)


def test_release_whose_login_is_not_there_is_refused(cluster: Cluster, release: Release) -> None:
    app = release(NEW).app
    logins.require(app)
    cluster.server.execute(f"DROP ROLE {NEW};")
    with pytest.raises(RefusedError, match=f"The role {NEW}, which shop logs in as") as caught:
        logins.require(app)
    assert "provision.yml" in str(caught.value.hint)


@pytest.mark.usefixtures("machine")
def test_only_an_app_with_logins_on_this_server_has_the_step() -> None:
    assert "logins" in [step.name for step in plans.after_record("release", "shop")]
    path = paths.app_config("shop")
    path.write_text(json.dumps(APP))
    assert "logins" not in [step.name for step in plans.after_record("release", "shop")]


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("shop_app", True),
        ("postgresql://shop_app:p@h/d", True),
        ("host=h user=shop_app password=p", True),
        ('{"user": "shop_app"}', True),
        ("shop_app_00000001", False),
        ("shop_app.settings", False),
        ("workshop_app", False),
    ],
)
def test_role_is_found_where_it_is_a_user(text: str, used: object) -> None:
    assert logins.is_used("shop_app", [text]) is used
