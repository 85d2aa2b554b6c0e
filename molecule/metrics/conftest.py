"""Fixtures of the scenario: what an exporter says, and a client of the app."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from testinfra.host import Host
from web_client import Client

SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)")
Ask = Callable[..., dict[str, float]]


@pytest.fixture
def client(host: Host, address: str) -> Client:
    """A client that trusts the authority of the app's certificate."""
    return Client(address, certificates=host.check_output("cat /etc/bedstone/tls/ca.crt"))


@pytest.fixture
def ask(host: Host, address: str) -> Ask:
    """A function that asks for an exporter's metrics as Prometheus does."""

    def answer(module: str, parameters: str = "") -> dict[str, float]:
        text = host.check_output(
            "cd /etc/bedstone/tls && curl -sSf --cacert ca.crt --cert monitoring.crt"
            " --key monitoring.key %s",
            f"https://{address}:9443/proxy?module={module}{parameters}",
        )
        found = (SAMPLE.fullmatch(line) for line in text.splitlines())
        return {match[1]: float(match[2]) for match in found if match}

    return answer
