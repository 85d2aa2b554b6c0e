from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from web_client import Client

if TYPE_CHECKING:
    from testinfra.host import Host


@pytest.fixture
def client(host: Host, address: str) -> Client:
    """A client that trusts the certificates of this server's sites."""
    return Client(address, certificates=host.check_output("cat /etc/bedstone/tls/*.crt"))
