"""Kore's tasks, sessions and pool, also while the system is released and its password replaced."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from testbed.paths import ROOT
from tests.seeds.conftest import System, waited_for
from tests.seeds.load import load

pytestmark = pytest.mark.parametrize("system", ["kore"], indirect=True)

TASKS = "/api/v1/tasks/"
LOGINS = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname ~ '_app_' ORDER BY 1"


def test_workers_take_tasks_from_rabbitmq_and_leave_results_in_redis(system: System) -> None:
    answers = [system.ask("/api/v1/sums/", f"numbers={number},1") for number in range(40)]
    assert [answer["sum"] for answer in answers] == [number + 1 for number in range(40)]
    assert len({answer["container"] for answer in answers}) > 1
    assert "celery" in system.on_server("rabbitmqctl -q list_queues -p /kore name")


def test_session_is_in_the_store_and_outlives_its_restart(system: System) -> None:
    first = system.ask("/api/v1/visits/")
    system.on_server("systemctl restart redis-kore-store.service redis-kore-cache.service")
    second = system.ask("/api/v1/visits/")
    assert second["visits"] == first["visits"] + 1
    # Beat sends through RabbitMQ; a worker counts.
    assert second["ticks"] > 0


@contextmanager
def used(system: System) -> Iterator[dict[str, Any]]:
    """Have people read and hand in tasks; none of it may fail, and each task is done once.

    Few a second: what a busy machine can't answer in time says nothing of a release.
    """
    (tenant,) = system.tenants
    batch = secrets.token_hex(4)
    pages = [f"--path={path}" for path in (tenant.health, "/api/v1/visits/")]
    form = [f"--path={TASKS}", f"--data=batch={batch}"]
    with (
        load(system, tenant, "--rate=2", *pages) as read,
        load(system, tenant, "--rate=1", *form) as written,
    ):
        yield {"read": read, "written": written}
    for found in (read, written):
        assert found["faults"] == {}, found
        assert (found["code"], found["ok"]) == (0, True)
    handed_in = written["rows"][0]["requests"]
    assert handed_in > 0
    done = {"rows": handed_in, "tasks": handed_in}
    waited_for(f"{done}", lambda: system.ask(f"{TASKS}?batch={batch}") == done)
    # A task that is done again comes later than it.
    assert "celery\t0" in system.on_server("rabbitmqctl -q list_queues -p /kore name messages")


def releases(system: System) -> list[str]:
    """Return the names of the releases, the newest first."""
    told = json.loads(system.on_server("bedstone releases kore --json"))
    return [each["release"] for each in told]


def test_release_and_fewer_workers_lose_no_request_and_no_task(system: System) -> None:
    settings = system.directory / "group_vars/all/settings.yml"
    text = settings.read_text()
    assert text.count("replicas: 5") == text.count("LOG_LEVEL: info") == 1
    settings.write_text(
        text.replace("replicas: 5", "replicas: 2").replace("LOG_LEVEL: info", "LOG_LEVEL: debug")
    )
    before = releases(system)
    with used(system):
        system.play("deploy")
    assert len(releases(system)) == len(before) + 1
    running = system.on_server("docker ps --format '{{.Names}}'")
    assert running.count("celery-worker") == 2


def test_password_is_replaced_through_the_pool_and_no_request_fails(system: System) -> None:
    logins = f'runuser -u postgres -- psql -XAtc "{LOGINS}"'
    before = system.on_server(logins).split()
    rotate = ["rotate", str(system.directory), "apps.kore.database_password"]
    with used(system):
        subprocess.run([sys.executable, "-m", "bedstone_control", *rotate], cwd=ROOT, check=True)
        system.play("site")
    after = system.on_server(logins).split()
    assert len(before) == len(after) == 1
    assert before != after
