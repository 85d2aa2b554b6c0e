"""Each seed system comes up from its own inventory, and does what its document says."""

from __future__ import annotations

import json
import re

from testbed.demo import changes
from tests.seeds.conftest import System


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
