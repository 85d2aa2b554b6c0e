"""A PostgreSQL for all of these tests, and an empty database for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    cluster.create(name)
    yield name
    cluster.drop(name)
