"""Fixtures of all scenarios, and the rule that tests which did not run have not passed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import again
import pytest
import testinfra
import units
import yaml
from testinfra.host import Host

JOURNAL_LINES = 40


def ephemeral() -> Path:
    """Return the directory in which the scenario's create playbook left its files."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def inventory() -> dict[str, Any]:
    """Return the scenario's servers as Ansible sees them."""
    loaded = yaml.safe_load((ephemeral() / "inventory/servers.yml").read_text())
    found: dict[str, Any] = loaded["all"]
    return found


def connect(name: str) -> Host:
    """Return a connection to a server of the scenario.

    Args:
        name: the whole name, or what follows the scenario's, for example "peer".
    """
    names = inventory()["hosts"]
    # A host's name has no underscore; create.yml puts a dash in its place.
    scenario = os.environ["MOLECULE_SCENARIO_NAME"].replace("_", "-")
    whole = name if name in names else f"molecule-{scenario}-{name}"
    if whole not in names:
        raise ValueError(f"The scenario has no server {name!r}; it has {', '.join(names)}.")
    return testinfra.get_host(f"ssh://{whole}", ssh_config=str(ephemeral() / "ssh_config"))


@pytest.fixture
def server_name(host: Host) -> str:
    """The name of the server under test, by which the scenario's other servers find it."""
    return str(host.backend.get_hostname())


@pytest.fixture
def address(server_name: str) -> str:
    """The address of the server under test."""
    return str(inventory()["hosts"][server_name]["ansible_host"])


@pytest.fixture(scope="module")
def suite(host: Host) -> str:
    """Debian's code name on the server under test."""
    return str(host.check_output(". /etc/os-release; echo $VERSION_CODENAME"))


@pytest.fixture(scope="session")
def server() -> Callable[[str], Host]:
    """A function that connects to any server of the scenario by name."""
    return connect


@pytest.fixture(scope="session")
def peer() -> Host:
    """The scenario's first peer: another machine, to test from."""
    peers = list(inventory()["children"].get("peers", {}).get("hosts", {}))
    if not peers:
        pytest.fail("The scenario has no peer; add one in molecule.yml: molecule_peers")
    return connect(peers[0])


@pytest.fixture(scope="session")
def variables() -> dict[str, Any]:
    """The variables of the scenario's molecule.yml, to compare with what is there."""
    path = ephemeral() / "inventory/group_vars/all"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """A function that waits for a condition: wait_until(lambda: ..., seconds=60)."""

    def wait(condition: Callable[[], object], *, seconds: float = 60, what: str = "") -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                pytest.fail(f"did not happen within {seconds} seconds: {what or condition}")
            time.sleep(0.2)

    return wait


@pytest.fixture
def look(host: Host) -> Callable[[], dict[str, Any] | None]:
    """A function that runs the hourly check for alarms and returns what the hook got.

    The scenario has the hook `command: [/usr/bin/tee, /run/molecule-told.json]`.
    """
    told = "/run/molecule-told.json"

    def once() -> dict[str, Any] | None:
        host.check_output("rm -f %s; systemctl start bedstone-alarms.service", told)
        found = host.file(told)
        return dict(json.loads(found.content_string)) if found.exists else None

    return once


@pytest.fixture(scope="module")
def without_timers(host: Host) -> Iterator[None]:
    """Keep Bedstone's timers from firing in the middle of a module's tests, at whatever hour."""
    listed = "systemctl list-units --type=timer --state=active --plain --no-legend 'bedstone-*'"
    timers = [line.split()[0] for line in host.check_output(listed).splitlines()]
    for timer in timers:
        host.check_output("systemctl stop %s", timer)
    # What had fired by then.
    units.settle(host)
    yield
    for timer in timers:
        host.check_output("systemctl start %s", timer)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the journal of the units that a test module names in UNITS to a failure."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    host = getattr(item, "funcargs", {}).get("host")
    units = getattr(getattr(item, "module", None), "UNITS", [])
    if call.when == "call" and report.failed and host is not None:
        for unit in units:
            journal = host.run("journalctl --no-pager -o cat -n %s -u %s", str(JOURNAL_LINES), unit)
            report.sections.append((f"journal of {unit}", journal.stdout))
    return report  # type: ignore[return-value]


class Outcomes:
    """Counts what passed on each server."""

    def __init__(self, config: pytest.Config) -> None:
        hosts = config.getoption("--hosts") or ""
        self.expected = {name for name in hosts.replace("ssh://", "").split(",") if name}
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the server of a test that passed."""
        if report.when == "call" and report.passed:
            self.passed |= {name for name in self.expected if name in report.nodeid}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail when no test passed on one of the servers."""
        missing = self.expected - self.passed
        if missing and session.exitstatus in {
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        }:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line(f"no test passed on: {', '.join(sorted(missing))}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Count from the start."""
    config.pluginmanager.register(Outcomes(config), "bedstone-outcomes")


@pytest.fixture
def declared(server_name: str) -> Iterator[Callable[..., Any]]:
    """Apply other arguments, and the scenario's own again afterwards."""
    changed = []

    def apply(**arguments: Any) -> Any:
        changed.append(arguments)
        return again.applied(server_name, **arguments)

    yield apply
    if changed:
        again.applied(server_name)
