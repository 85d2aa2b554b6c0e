"""Connections to PostgreSQL, in each of libpq's modes, as the environment asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from config.database import databases
from config.environment import SslMode, load

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from pytest_django import DjangoDbBlocker

    from tests.cluster import Cluster

pytestmark = pytest.mark.usefixtures("django_db_setup")

QUERY = "SELECT ssl, version, client_serial::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture
def connect(
    environment: dict[str, str], django_db_blocker: DjangoDbBlocker
) -> Callable[..., tuple[bool, str | None, str | None]]:
    """Connect as Django would with this environment; gives what the server says of it."""

    def _connect(**changes: object) -> tuple[bool, str | None, str | None]:
        values = environment | {name: str(value) for name, value in changes.items()}
        with mock.patch.dict(os.environ, values, clear=True):
            connection = ConnectionHandler(databases(load()))["default"]
        with django_db_blocker.unblock():
            try:
                with connection.cursor() as cursor:
                    cursor.execute(QUERY)
                    row: tuple[bool, str | None, str | None] = cursor.fetchone()
                    return row
            finally:
                connection.close()

    return _connect


@pytest.mark.parametrize("mode", list(SslMode))
def test_every_mode_connects_and_all_but_two_encrypt(
    connect: Callable[..., tuple[bool, str | None, str | None]], cluster: Cluster, mode: SslMode
) -> None:
    root = {"POSTGRES_SSL_ROOT_CERT": cluster.ca} if mode.verifies else {}
    encrypted, version, _ = connect(POSTGRES_SSL_MODE=mode, **root)
    # `allow` asks for plain text first, and this server grants it.
    assert encrypted is (mode not in {SslMode.DISABLE, SslMode.ALLOW})
    assert version == ("TLSv1.3" if encrypted else None)


@pytest.mark.parametrize("mode", [SslMode.VERIFY_CA, SslMode.VERIFY_FULL])
def test_a_server_certificate_of_another_ca_is_refused(
    connect: Callable[..., object], cluster: Cluster, mode: SslMode
) -> None:
    with pytest.raises(OperationalError, match="certificate verify failed"):
        connect(POSTGRES_SSL_MODE=mode, POSTGRES_SSL_ROOT_CERT=cluster.other_ca)


def test_verify_full_refuses_a_name_that_the_certificate_lacks(
    connect: Callable[..., object], cluster: Cluster
) -> None:
    with pytest.raises(OperationalError, match="does not match host name"):
        connect(
            POSTGRES_SSL_MODE="verify-full",
            POSTGRES_SSL_ROOT_CERT=cluster.ca,
            POSTGRES_HOST="127.0.0.1",
        )


def test_the_systems_authorities_do_not_know_our_server(connect: Callable[..., object]) -> None:
    with pytest.raises(OperationalError, match="certificate verify failed"):
        connect(POSTGRES_SSL_MODE="verify-full", POSTGRES_SSL_ROOT_CERT="system")


def test_a_client_certificate_is_sent(
    connect: Callable[..., tuple[bool, str | None, str | None]], cluster: Cluster
) -> None:
    user = {"POSTGRES_USER": "payments_certificate"}
    with pytest.raises(OperationalError, match="requires a valid client certificate"):
        connect(**user)
    _, _, serial = connect(
        **user,
        POSTGRES_SSL_CERT=cluster.client_certificate,
        POSTGRES_SSL_KEY=cluster.client_key,
    )
    assert serial is not None


def test_a_missing_file_stops_the_start_with_its_path(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    done = run(
        "manage.py", "check", env=environment | {"POSTGRES_SSL_ROOT_CERT": "/nowhere/ca.crt"}
    )
    assert done.returncode == 78
    assert "POSTGRES_SSL_ROOT_CERT names the file /nowhere/ca.crt" in done.stderr
