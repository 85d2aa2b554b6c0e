"""A PostgreSQL for all of these tests, and a database for each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.integration import projects
from tests.integration.cluster import Cluster
from tests.integration.projects import Project

Create = Callable[..., str]
Prepared = Callable[[str, Callable[[Project], None]], str]

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
def create(cluster: Cluster) -> Create:
    """Make a database, empty or a copy of another; all of them go with the cluster."""

    def create(template: str = "template0") -> str:
        name = f"test_{next(_numbers)}"
        cluster.create(name, template)
        return name

    return create


@pytest.fixture
def database(create: Create) -> str:
    """Return the name of an empty database."""
    return create()


@pytest.fixture(scope="session")
def prepared(
    cluster: Cluster, create: Create, tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    """Return a copy of a database in which a project's first migrations are applied."""
    templates: dict[str, str] = {}

    def prepared(tool: str, write_first: Callable[[Project], None]) -> str:
        if tool not in templates:
            templates[tool] = create()
            make = {"django": projects.django, "alembic": projects.alembic}[tool]
            project = make(tmp_path_factory.mktemp(tool), cluster.server, templates[tool])
            write_first(project)
            project.upgrade()
        return create(templates[tool])

    return prepared
