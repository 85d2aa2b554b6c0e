"""The app of the proof, as an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from ledger_app import APP, Ledger
from testinfra.host import Host

WORKERS = ("worker", "beat")


@pytest.fixture
def ledger(host: Host, wait_until: Callable[..., None]) -> Ledger:
    """The app on the server under test, with a plain release that serves."""
    app = Ledger(host, wait_until)
    app.plain()
    return app


@pytest.fixture(scope="module")
def web_alone(host: Host) -> Iterator[None]:
    """Declare the app without its workers, for tests that aren't about them.

    That they stop warm and stay up for a while is more than half of a release's time.
    """
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", APP, kept)
    app = json.loads(host.check_output("cat %s", APP))
    for name in WORKERS:
        app["services"].pop(name, None)
    host.check_output("printf '%%s' %s > %s.new && mv %s.new %s", json.dumps(app), APP, APP, APP)
    yield
    host.check_output("mv %s %s", kept, APP)


@pytest.fixture(scope="module", autouse=True)
def _quiet(without_timers: None) -> None:
    """Let no nightly run hold the app's lock."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those with workers come first: a change between the two is a release."""
    items.sort(key=lambda item: "web_alone" in getattr(item, "fixturenames", ()))
