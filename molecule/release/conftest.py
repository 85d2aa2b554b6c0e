"""The app of the proof, as an object."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ledger_app import Ledger
from testinfra.host import Host


@pytest.fixture
def ledger(host: Host, wait_until: Callable[..., None]) -> Ledger:
    """The app on the server under test, with a plain release that serves."""
    app = Ledger(host, wait_until)
    app.plain()
    return app
