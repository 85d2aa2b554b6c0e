"""Fixtures. Every test that touches the database does so as the app's own role."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection

from payments.groups import APPROVERS, REQUESTERS
from tests import settings as test_settings
from tests.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.conf import LazySettings
    from django.test import Client
    from pytest_django import DjangoDbBlocker

APP = Path(__file__).resolve().parent.parent

Run = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running PostgreSQL with the app's roles, and no database yet."""
    made = Cluster(
        port=int(test_settings.ENVIRONMENT["POSTGRES_PORT"]), password=test_settings.PASSWORD
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def connected_as(*, user: str = "payments_app", database: str = "payments") -> Iterator[None]:
    """Let Django's connection be another role's, or to another database, for a while."""
    before = {key: connection.settings_dict[key] for key in ("USER", "NAME")}
    connection.close()
    connection.settings_dict.update(USER=user, NAME=database)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


@pytest.fixture(scope="session")
def django_db_setup(cluster: Cluster, django_db_blocker: DjangoDbBlocker) -> None:
    """Instead of pytest-django's: migrations run as one role, the tests as another."""
    cluster.create_database("payments")
    with django_db_blocker.unblock(), connected_as(user="payments_migrate"):
        call_command("migrate", verbosity=0)
    cluster.create_database("pristine", template="payments")


@pytest.fixture
def own_database(
    django_db_setup: None, cluster: Cluster, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """A migrated database of this test's own, for tests that must commit; gives its name.

    (pytest-django would empty the shared one by TRUNCATE, which the app's role can't do.)
    """
    name = f"own_{uuid4().hex[:12]}"
    cluster.create_database(name, template="pristine")
    try:
        with django_db_blocker.unblock(), connected_as(database=name):
            yield name
    finally:
        cluster.drop_database(name)


@pytest.fixture(scope="session", autouse=True)
def static_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Collected static files, as in production: a page that names a missing one fails."""
    folder = tmp_path_factory.mktemp("static")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.STATIC_ROOT", folder)
        call_command("collectstatic", interactive=False, verbosity=0)
        yield


@pytest.fixture(autouse=True)
def media_root(tmp_path: Path, settings: LazySettings) -> Path:
    """A folder of the test's own for uploaded files."""
    folder = tmp_path / "media"
    folder.mkdir()
    settings.MEDIA_ROOT = folder
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """A complete environment for a process of the app's, to change and pass to `run`."""
    return {**test_settings.SYSTEM, **test_settings.ENVIRONMENT}


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program of the app in a process of its own."""

    def _run(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=APP,
            env=env,
            timeout=60,
        )

    return _run


def make_user(name: str, group: str) -> User:
    user = User.objects.create_user(name, password=f"{name}'s password")
    user.groups.add(Group.objects.get(name=group))
    return user


@pytest.fixture
def requester(db: None) -> User:
    return make_user("rosa", REQUESTERS)


@pytest.fixture
def approver(db: None) -> User:
    return make_user("arthur", APPROVERS)


@pytest.fixture
def outsider(db: None) -> User:
    """Somebody else who may ask for payments."""
    return make_user("olga", REQUESTERS)


@pytest.fixture
def as_requester(requester: User, client: Client) -> Client:
    client.force_login(requester)
    return client


@pytest.fixture
def as_approver(approver: User) -> Client:
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(approver)
    return client
