"""A PostgreSQL for all of these tests, and an empty database for each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.integration import projects
from tests.integration.cluster import Cluster
from tests.integration.projects import Project

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def prepared(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Callable[[Project], None]], str]:
    """Make a database that others are copied from, by migrating a project once."""
    names: dict[str, str] = {}

    def prepare(tool: str, first: Callable[[Project], None]) -> str:
        if tool not in names:
            names[tool] = f"prepared_{tool}"
            cluster.create(names[tool])
            make = {"django": projects.django, "alembic": projects.alembic}[tool]
            project = make(tmp_path_factory.mktemp(tool) / "image", cluster.server, names[tool])
            first(project)
            project.upgrade()
        return names[tool]

    return prepare


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    cluster.create(name)
    yield name
    cluster.drop(name)
