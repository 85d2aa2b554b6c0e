"""While a destination is away the database serves on; it heals by itself when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import units

if TYPE_CHECKING:
    from molecule.pgbackrest.conftest import Cluster

UNITS = ["postgresql@*"]
CONF = "/etc/pgbackrest/pgbackrest.conf"
# The role's argument in this scenario: 64 MB.
SEGMENTS_KEPT = 4


@pytest.fixture(scope="module")
def backed_up(cluster: Cluster) -> Cluster:
    """A cluster with a backup at each destination."""
    cluster.backup("full")
    cluster.is_well()
    return cluster


@pytest.fixture
def away(backed_up: Cluster, configuration: Callable[..., None]) -> Iterator[Callable[[], None]]:
    """The server elsewhere can't be reached, until the function is called."""
    # What takes minutes takes seconds.
    configuration("s/^io-timeout=10/io-timeout=1\\narchive-timeout=5/")
    address = backed_up.host.check_output("getent ahostsv4 offsite | cut -d' ' -f1 | head -1")
    backed_up.host.check_output(f"ip route add unreachable {address}/32")
    ended = []

    def back() -> None:
        backed_up.host.check_output(
            f"ip route del unreachable {address}/32; cp -p {CONF}.before {CONF}"
        )
        ended.append(True)

    try:
        yield back
    finally:
        if not ended:
            back()


def test_outage_is_seen_and_heals_without_loss(
    backed_up: Cluster, away: Callable[[], None], wait_until: Callable[..., None]
) -> None:
    local = backed_up.listed("local")["newest_wal"]
    backed_up.pay("during the outage")
    segment = backed_up.switch()
    # The others get theirs during that time.
    limit = units.LIMIT_SECONDS
    wait_until(lambda: backed_up.listed("local")["newest_wal"] > local, seconds=limit)
    wait_until(lambda: "WAL isn't archived" in backed_up.problems(), seconds=limit)
    assert backed_up.ready_files() >= 1
    backed_up.pay("the database serves on")
    # A failure at a destination doesn't stop a convergence.
    ready = backed_up.run("wal ready")
    assert ready.rc == 0, ready.stderr
    assert "can't be reached" in ready.stderr
    assert "WAL at bucket: " in backed_up.problems()

    away()
    backed_up.bedstone("wal ready")
    assert backed_up.listed("bucket")["newest_wal"] >= segment
    wait_until(lambda: backed_up.ready_files() == 0, seconds=limit)
    backed_up.is_well()


def test_wal_is_kept_up_to_the_limit_and_a_gap_is_told(
    backed_up: Cluster, away: Callable[[], None], wait_until: Callable[..., None]
) -> None:
    for number in range(3 * SEGMENTS_KEPT):
        backed_up.pay(f"a segment of its own, {number}")
        backed_up.switch()
    wait_until(lambda: backed_up.ready_files() <= SEGMENTS_KEPT + 1, seconds=units.LIMIT_SECONDS)
    backed_up.pay("the database serves on")

    away()
    backed_up.bedstone("wal ready")
    assert "the WAL there has a gap" in backed_up.problems()
    backed_up.backup("incremental")
    backed_up.is_well()
