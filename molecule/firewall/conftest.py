"""Puts the converged rules back after each test, faster than a run of the role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

CONFIRMED = "/var/lib/bedstone/firewall/confirmed.nft"
DECLARED = "/etc/bedstone/firewall.nft"


@pytest.fixture(autouse=True)
def converged(host: Host) -> Iterator[None]:
    """Load the rules that the scenario declares, as they were before the test."""
    saved = "/root/converged.nft"
    host.check_output(f"cmp {CONFIRMED} {DECLARED} && cp {CONFIRMED} {saved}")
    yield
    host.check_output(
        f"cp {saved} {CONFIRMED} && cp {saved} {DECLARED} && systemctl start bedstone-firewall"
        " && /usr/local/lib/bedstone/firewall rollback"
        ' && test -z "$(/usr/local/lib/bedstone/firewall check)"'
    )
