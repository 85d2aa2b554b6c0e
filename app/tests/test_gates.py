"""The gates a release passes: Django's own checks, and migrations that are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.db import connection

from tests.conftest import connected_as

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from pytest_django import DjangoDbBlocker

    from tests.cluster import Cluster

MANAGED = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = 'public' AND table_name LIKE 'payments%'
"""


def test_the_deployment_check_is_clean_with_a_production_environment(
    run: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
    cluster: Cluster,
) -> None:
    production = environment | {
        "HTTPS_ENFORCED": "true",
        "POSTGRES_SSL_MODE": "verify-full",
        "POSTGRES_SSL_ROOT_CERT": str(cluster.ca),
    }
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", env=production)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_the_deployment_check_would_find_a_mistake(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    done = run(
        *("manage.py", "check", "--deploy", "--fail-level", "WARNING"),
        env=environment | {"DEBUG": "true"},
    )
    assert done.returncode == 1
    assert "security.W018" in done.stderr


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_migrations_go_back_and_forth_as_the_migration_role(
    cluster: Cluster, own_database: str
) -> None:
    def tables() -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute(MANAGED)
            return {row[0] for row in cursor.fetchall()}

    before = tables()
    assert "payments_paymentrequest" in before
    with connected_as(user="payments_migrate", database=own_database):
        call_command("migrate", "payments", "zero", verbosity=0)
        assert tables() == set()
        call_command("migrate", verbosity=0)
        assert tables() == before


def test_the_migration_role_leaves_everything_to_the_owner(
    cluster: Cluster, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchall() == [("payments_owner",)]
    connection.close()


@pytest.mark.django_db
def test_the_groups_are_made_with_their_permissions_and_then_left_alone() -> None:
    from django.contrib.auth.models import Group  # noqa: PLC0415

    from payments.groups import APPROVERS, REQUESTERS, make_groups  # noqa: PLC0415

    def permissions(name: str) -> set[str]:
        return set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))

    assert permissions(REQUESTERS) == {"add_paymentrequest"}
    assert permissions(APPROVERS) == {
        "view_paymentrequest",
        "decide_paymentrequest",
        "pay_paymentrequest",
    }
    Group.objects.get(name=REQUESTERS).permissions.clear()
    make_groups()
    assert permissions(REQUESTERS) == set()
