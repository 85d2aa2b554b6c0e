"""The units that role app lays out: jobs, their timers, and services that come and go."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from again import applied, refused
from testinfra.host import Host
from units import Journal

UNITS = ["bedstone-operation@hello.service", "bedstone-hello-job-tidy.service"]
DIRECTORY = "/etc/systemd/system"
UNIT_FILES = f"find {DIRECTORY} -name 'bedstone-*' -type f -exec sha256sum {{}} + | sort"
WORKER = f"{DIRECTORY}/bedstone-hello-worker@.service"


@pytest.fixture
def hello(variables: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the app, to be changed."""
    app: dict[str, Any] = copy.deepcopy(variables["app_apps"][0])
    app["source_archive"] = f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/hello.tar.gz"
    return app


@pytest.fixture(scope="module")
def restored(host: Host) -> Iterator[None]:
    """Apply the scenario's own arguments again when the module's tests are through.

    Each run of the role declares everything, so a test undoes what the one before it declared.
    """
    yield
    applied(host.backend.get_hostname())


def show(host: Host, unit: str, what: str) -> str:
    return str(host.check_output("systemctl show --property=%s --value %s", what, unit))


def running(host: Host) -> set[str]:
    """Return the units of the app's services that run."""
    listed = host.check_output(
        "systemctl list-units --plain --no-legend --state=active 'bedstone-hello-*@*.service'"
    )
    return {line.split()[0] for line in listed.splitlines()}


def test_systemd_has_nothing_to_say_against_the_units(host: Host) -> None:
    # Of a template, an instance is looked at.
    verified = host.run(
        f"cd {DIRECTORY}; systemd-analyze verify --man=no bedstone-settle.service "
        "bedstone-operation@hello.service bedstone-hello-job-*.service bedstone-hello-job-*.timer"
    )
    said = f"{verified.stdout}{verified.stderr}"
    assert [line for line in said.splitlines() if "bedstone-" in line] == []
    assert verified.rc == 0


def test_boot_puts_interrupted_releases_right(host: Host) -> None:
    assert host.service("bedstone-settle.service").is_enabled
    host.check_output("systemctl restart bedstone-settle.service")
    assert show(host, "bedstone-settle.service", "Result") == "success"


def test_timer_waits_for_its_time_also_after_a_boot(host: Host) -> None:
    timer = "bedstone-hello-job-tidy.timer"
    assert host.service(timer).is_enabled
    assert show(host, timer, "ActiveState") == "active"
    assert "2099-03-01 03:00:00 " in show(host, timer, "NextElapseUSecRealtime")
    assert not host.file(f"{DIRECTORY}/bedstone-hello-job-recount.timer").exists


def test_job_runs_in_a_container_and_its_lines_are_in_the_journal(host: Host) -> None:
    journal = Journal(host, "bedstone-hello-job-tidy.service")
    host.check_output("systemctl start bedstone-hello-job-tidy.service")
    journal.says("tidied up")


def test_failed_job_is_a_failed_unit_that_the_hooks_hear_of(host: Host) -> None:
    unit = "bedstone-hello-job-recount.service"
    journal = Journal(host, unit)
    assert host.run("systemctl start %s", unit).rc != 0
    assert show(host, unit, "Result") == "exit-code"
    assert f"bedstone-failed@{unit}.service" in show(host, unit, "OnFailure").split()
    journal.says("nothing to count")
    host.check_output("systemctl reset-failed %s", unit)


@pytest.mark.usefixtures("restored")
def test_time_that_systemd_does_not_know_is_refused_before_anything_changes(
    host: Host, server_name: str, hello: dict[str, Any]
) -> None:
    before = host.check_output(UNIT_FILES)
    hello["config"]["jobs"]["tidy"]["schedule"] = "25:00"
    hello["config"]["services"]["worker"]["stop_seconds"] = 9
    said = refused(server_name, app_apps=[hello])
    assert "Failed to parse calendar specification '25:00'" in said
    assert host.check_output(UNIT_FILES) == before


@pytest.mark.usefixtures("restored")
def test_changed_time_counts_at_once_and_a_removed_job_is_gone(
    host: Host, server_name: str, hello: dict[str, Any]
) -> None:
    timer = "bedstone-hello-job-tidy.timer"
    hello["config"]["jobs"]["tidy"]["schedule"] = "2099-03-01 04:30:00"
    applied(server_name, app_apps=[hello])
    assert " 04:30:00 " in show(host, timer, "NextElapseUSecRealtime")
    del hello["config"]["jobs"]["tidy"]
    applied(server_name, app_apps=[hello])
    assert show(host, timer, "LoadState") == "not-found"
    assert host.run(f"ls {DIRECTORY}/bedstone-hello-job-tidy.*").rc != 0
    assert host.run(f"ls {DIRECTORY}/timers.target.wants/{timer}").rc != 0
    assert host.file(f"{DIRECTORY}/bedstone-hello-job-recount.service").exists


@pytest.mark.usefixtures("restored")
def test_dropped_service_runs_on_until_a_release_without_it_serves(
    host: Host, server_name: str, hello: dict[str, Any]
) -> None:
    workers = {f"bedstone-hello-worker@{number}.service" for number in (1, 2)}
    assert workers <= running(host)
    del hello["config"]["services"]["worker"]
    broken = copy.deepcopy(hello)
    broken["environment"]["FAIL_CHECK"] = "1"
    assert "FAIL_CHECK is set" in refused(server_name, app_apps=[broken])
    assert workers <= running(host), "the release of before needs them"
    assert host.file(WORKER).exists
    applied(server_name, app_apps=[hello])
    assert not workers & running(host)
    assert host.file(WORKER).exists
    assert "changed=0 " in applied(server_name, app_apps=[hello])
    host.check_output("bedstone rollback hello")
    assert workers <= running(host), "a rollback finds what it starts"


@pytest.mark.usefixtures("restored")
def test_units_of_an_app_that_is_gone_go_once_it_has_stopped(
    host: Host, server_name: str, hello: dict[str, Any], wait_until: Callable[..., None]
) -> None:
    applied(server_name, app_apps=[], app_retire=["hello"])
    assert running(host) == set()
    listed = host.run(f"ls {DIRECTORY} | grep -x 'bedstone-hello-.*'").stdout
    assert listed == ""
    assert host.check_output("docker ps --quiet --filter label=bedstone.app=hello") == ""
    applied(server_name, app_apps=[hello])
    wait_until(lambda: host.run("bedstone status").rc == 0)
    status = json.loads(host.check_output("bedstone status --json"))
    assert [app["app"] for app in status["apps"]] == ["hello"]
