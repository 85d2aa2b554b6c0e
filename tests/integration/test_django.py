from __future__ import annotations

from pathlib import Path

import pytest

from bedstone.migrations import lint
from tests.integration import projects
from tests.integration.cluster import Cluster
from tests.integration.projects import Project, migration

BOOK = """
migrations.CreateModel("Book", [
    ("id", models.BigAutoField(primary_key=True)),
    ("title", models.CharField(max_length=100)),
    ("pages", models.IntegerField(null=True)),
]),
"""


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster, database: str) -> Project:
    made = projects.django(tmp_path / "image", cluster.server, database)
    migration(made, "shop.0001_initial", BOOK)
    return made


def test_on_an_empty_database_everything_is_pending_and_nothing_is_found(project: Project) -> None:
    report = project.report()
    assert report.applied == ()
    assert [each.name for each in report.pending] == [
        "contenttypes.0001_initial",
        "contenttypes.0002_remove_content_type_name",
        "shop.0001_initial",
    ]
    assert lint(report) == ()


def test_nothing_is_pending_after_the_migrate_command(project: Project) -> None:
    project.upgrade()
    report = project.report()
    assert report.pending == ()
    assert set(report.applied) == set(report.known)
