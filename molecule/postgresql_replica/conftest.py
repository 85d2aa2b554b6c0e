"""Two servers of one inventory: which of them is the primary changes in the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from replica_pair import Database
from testinfra.host import Host


@pytest.fixture
def one(host: Host, address: str) -> Database:
    """The server that is the primary at first, and runs the apps."""
    return Database(host, address)


@pytest.fixture
def two(server: Callable[[str], Host]) -> Database:
    """The server that keeps the copy at first."""
    host = server("copy")
    return Database(host, host.check_output("hostname -I").split()[0])
