"""An operation outlives its caller, and no other operation of the app can start."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from ledger_app import Ledger, Load
from testinfra.backend.base import CommandResult
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-operation@ledger"]
OPERATION = "bedstone-operation@ledger.service"
LEDGER = "/var/lib/bedstone/ledger.sqlite"


def as_it_is(host: Host, wait_until: Callable[..., None]) -> Ledger:
    """Return the app with whatever the test before has released, if all is well with it."""
    app = Ledger(host, wait_until)
    if app.answer_or_none() is None or app.workers() or not app.status()["ok"]:
        app.plain()
    return app


@pytest.fixture
def ledger(host: Host, wait_until: Callable[..., None]) -> Ledger:
    """The app with a release that serves."""
    return as_it_is(host, wait_until)


def slow_source(ledger: Ledger) -> str:
    """Put a source on the server whose release is slow enough to be met in the middle."""
    applied = [name.partition("_")[2] for name in ledger.migrated()]
    return ledger.source("slow", [*applied, "long"])


@contextmanager
def release_over_ssh(ledger: Ledger) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a release as a person does, over a connection of its own."""
    config = f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ssh_config"
    own = ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
    name = ledger.host.backend.get_hostname()
    client = subprocess.Popen(
        ["ssh", "-F", config, *own, "-tt", name, "bedstone release ledger"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def ended(host: Host) -> bool:
    """Return whether the operation's unit has ended, with the reconcile after a kill."""
    return host.run("systemctl is-active %s", OPERATION).stdout.strip() in {"inactive", "failed"}


def step_of(host: Host) -> str:
    """Return the present step of the running operation."""
    return str(
        host.check_output(
            "python3 -c %s",
            f"import sqlite3; print(*[row[0] for row in sqlite3.connect({LEDGER!r}).execute("
            '"SELECT name FROM operation_steps JOIN operations ON operations.id = operation'
            " WHERE operations.state = 'running' AND operation_steps.state = 'running'\")])",
        )
    )


@dataclass(frozen=True)
class Cut:
    """A release whose caller's connection is killed in the middle, and what others then got."""

    ledger: Ledger
    before: str
    version: str
    goes_on: bool
    second: CommandResult
    refused: dict[str, Any]
    outcome: dict[str, Any]
    load: Load


@pytest.fixture(scope="module")
def cut(host: Host, wait_until: Callable[..., None]) -> Cut:
    """All changes: each test checks one component's view of them."""
    ledger = as_it_is(host, wait_until)
    before = ledger.answer()["version"]
    with ledger.load() as load:
        version = slow_source(ledger)
        with release_over_ssh(ledger) as client:
            ledger.wait_until(lambda: step_of(host) == "migrate", seconds=300, what="it migrates")
            client.kill()
            client.wait()
        goes_on = host.service(OPERATION).is_running
        second = host.run("bedstone release ledger")
        refused = json.loads(host.run("bedstone rollback ledger --json").stdout)
        outcome = ledger.bedstone("watch ledger")
    return Cut(ledger, before, version, goes_on, second, refused, outcome, load)


def test_killed_connection_ends_no_release(cut: Cut) -> None:
    ledger = cut.ledger
    assert cut.goes_on
    ledger.check_nothing_lost(cut.load)
    assert cut.outcome["ok"]
    assert ledger.answer()["version"] == cut.version
    assert cut.load.versions == {cut.before, cut.version}
    assert "serves" in ledger.host.run("bedstone watch ledger").stdout


def test_second_release_is_told_who_and_since_when(cut: Cut) -> None:
    assert cut.second.rc == 3
    assert "ledger is locked by `bedstone release ledger`" in cut.second.stderr
    assert "since 20" in cut.second.stderr
    assert "bedstone watch ledger" in cut.second.stderr
    assert cut.refused["ok"] is False
    assert "is locked by" in cut.refused["error"]


def test_killed_operation_is_undone_by_systemd(host: Host, ledger: Ledger) -> None:
    before, release = ledger.answer(), ledger.status()["release"]
    with ledger.load() as load:
        slow_source(ledger)
        with release_over_ssh(ledger):
            ledger.wait_until(lambda: step_of(host) == "migrate", seconds=300, what="it migrates")
            host.check_output("systemctl kill --kill-whom=main --signal=KILL %s", OPERATION)
            ledger.wait_until(lambda: ended(host), seconds=180, what="it is settled")
    ledger.check_nothing_lost(load)
    assert (ledger.answer(), ledger.status()["release"]) == (before, release)
    assert ledger.status()["ok"]
    assert host.check_output("docker ps -aq --filter name=bedstone-ledger-migrate") == ""
    said = host.run("bedstone status").stdout
    assert "failed at migrate" in said
    assert "killed" in said or "interrupted" in said
    ledger.release()


def test_operation_is_called_off_by_stopping_its_unit(host: Host, ledger: Ledger) -> None:
    before, release = ledger.answer(), ledger.status()["release"]
    with ledger.load() as load:
        slow_source(ledger)
        with release_over_ssh(ledger):
            ledger.wait_until(lambda: step_of(host) == "migrate", seconds=300, what="it migrates")
            host.check_output("systemctl stop %s", OPERATION)
    ledger.check_nothing_lost(load)
    assert (ledger.answer(), ledger.status()["release"]) == (before, release)
    assert "failed at migrate" in host.run("bedstone status").stdout
    ledger.release()
