"""The build cache has a limit: with a small one, so that it can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from again import applied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

UNITS = ["docker.service"]
LIMIT = {"gc": {"enabled": True, "defaultKeepStorage": "20MB"}}
LARGE = """\
FROM bedstone-python:trixie
RUN ["python", "-c", "import os; open('/x', 'wb').write(os.urandom(80 << 20))"]
"""


@pytest.fixture(scope="module")
def _built(host: Host) -> Iterator[None]:
    """A build of more than the limit: BuildKit looks a minute after a build."""
    applied("servers", docker_daemon_settings={"builder": LIMIT})
    host.check_output("mkdir -p /tmp/large && printf %%s %s > /tmp/large/Dockerfile", LARGE)
    host.check_output("docker build --quiet --tag molecule-large /tmp/large")
    host.check_output("docker image rm molecule-large")
    yield
    applied("servers")


def build_cache_mb(host: Host) -> float:
    """Return the size of the build cache in MB."""
    rows = host.check_output("docker system df --format '{{.Type}}|{{.Size}}'").splitlines()
    size = next(row.split("|")[1] for row in rows if row.startswith("Build Cache"))
    units = {"kB": 0.001, "MB": 1.0, "GB": 1000.0}
    return float(size.rstrip("kMGB")) * units.get(size.lstrip("0123456789."), 0.000001)


@pytest.mark.usefixtures("_built")
def test_daemon_keeps_less_than_was_built(host: Host, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: build_cache_mb(host) < 40, seconds=400, what="the cache is small")
