"""Each seed system comes up from its own inventory, and does what its document says."""

from __future__ import annotations

import json
import re

import pytest

from testbed.demo import changes
from tests.seeds.conftest import System

of_kore = pytest.mark.parametrize("system", ["kore"], indirect=True)


def test_app_answers_that_all_of_it_works(system: System) -> None:
    for tenant in system.tenants:
        assert system.ask(tenant.health, tenant=tenant)


def test_every_service_and_its_alarms_are_quiet(system: System) -> None:
    status = json.loads(system.on_server("bedstone status --json || true"))
    assert status["ok"], status["problems"]
    assert sorted(app["app"] for app in status["apps"]) == sorted(t.app for t in system.tenants)
    services = [service for app in status["apps"] for service in app["services"]]
    assert [each["service"] for each in services if not each["ok"]] == []
    failed = system.on_server("systemctl --failed --plain --no-legend || true")
    assert failed.strip() == ""


def test_second_run_changes_nothing(system: System) -> None:
    assert changes(system.play("site")) == 0


def test_backup_and_restore_of_the_readme(system: System) -> None:
    app = system.tenants[0].app
    system.play("backup", "-e", f"app={app}")
    (newest, *_) = json.loads(system.on_server(f"bedstone backups {app} --json"))
    system.play("restore", "-e", f"app={app} confirm={app} backup={newest['name']}")
    assert system.ask(system.tenants[0].health)


def test_only_ssh_and_the_web_are_open(system: System) -> None:
    report = system.play("audit")
    assert re.search(r"All \d+ checks passed\.", report), report


@of_kore
def test_workers_take_tasks_from_rabbitmq_and_leave_results_in_redis(system: System) -> None:
    answers = [system.ask("/api/v1/sums/", f"numbers={number},1") for number in range(40)]
    assert [answer["sum"] for answer in answers] == [number + 1 for number in range(40)]
    assert len({answer["container"] for answer in answers}) > 1
    assert "celery" in system.on_server("rabbitmqctl -q list_queues -p /kore name")


@of_kore
def test_session_is_in_the_store_and_outlives_its_restart(system: System) -> None:
    first = system.ask("/api/v1/visits/")
    system.on_server("systemctl restart redis-kore-store.service redis-kore-cache.service")
    second = system.ask("/api/v1/visits/")
    assert second["visits"] == first["visits"] + 1
    # Beat sends through RabbitMQ; a worker counts.
    assert second["ticks"] > 0


@of_kore
def test_workers_are_scaled_by_one_number(system: System) -> None:
    settings = system.directory / "group_vars/all/settings.yml"
    text = settings.read_text()
    assert text.count("replicas: 5") == 1
    settings.write_text(text.replace("replicas: 5", "replicas: 2"))
    system.play("deploy")
    running = system.on_server("docker ps --format '{{.Names}}'")
    assert running.count("celery-worker") == 2
    assert system.ask("/api/v1/sums/", "numbers=1,2")["sum"] == 3
