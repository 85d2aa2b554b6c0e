"""Health checks: honest, quick, silent about secrets, and open to any load balancer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client, override_settings

from config import health

if TYPE_CHECKING:
    from pathlib import Path

    from django.conf import LazySettings

HEALTHY = {"configuration": "healthy", "database": "healthy", "migrations": "healthy"}


def test_liveness_needs_no_database(client: Client) -> None:
    """Without the `db` fixture any query is an error."""
    answer = client.get("/health/live")
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    age = datetime.now(UTC) - datetime.fromisoformat(answer.json()["timestamp"])
    assert timedelta(0) <= age < timedelta(seconds=10)
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/health/ready", "/health/", "/health", "/health/ready/"])
def test_readiness_runs_every_check(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json()["checks"] == HEALTHY


@override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["pay.example.com"])
@pytest.mark.django_db
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "pay.example.com", "in valid", ""])
@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/"])
def test_a_load_balancer_may_ask_over_http_under_any_host(path: str, host: str) -> None:
    answer = Client(headers={"host": host}).get(path)
    assert answer.status_code == 200


@override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["pay.example.com"])
def test_every_other_page_is_redirected_and_checks_the_host() -> None:
    assert Client(headers={"host": "pay.example.com"}).get("/login/").status_code == 301
    assert Client(headers={"host": "evil.example.com"}).get("/login/").status_code == 400
    assert Client(headers={"host": "evil.example.com"}).get("/health/x").status_code == 400


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_only_get_and_head_are_answered(client: Client, method: str) -> None:
    assert getattr(client, method)("/health/live").status_code == 405
    assert client.head("/health/live").status_code == 200


def unready(client: Client) -> dict[str, Any]:
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    checks: dict[str, Any] = answer.json()["checks"]
    return checks


def test_a_dead_database_makes_it_unready_and_says_no_secret(
    client: Client, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = str(connection.settings_dict["PASSWORD"])
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {
        "configuration": "healthy",
        "database": "unhealthy",
        "migrations": "unhealthy",
    }
    assert password not in answer.text
    assert "payments_app" not in answer.text
    assert client.get("/health/live").status_code == 200


def test_it_is_ready_again_when_the_database_is(
    client: Client, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    with monkeypatch.context() as broken:
        broken.setitem(connection.settings_dict, "PORT", "1")
        assert client.get("/health/ready").status_code == 503
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db
def test_a_missing_migration_makes_it_unready(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    connection.cursor().execute("DELETE FROM django_migrations WHERE name = '0002_guards'")
    assert unready(client) == HEALTHY | {"migrations": "unhealthy"}
    assert "payments.0002_guards" in caplog.text


@pytest.mark.django_db
def test_a_database_ahead_of_the_code_is_ready(client: Client) -> None:
    """During a release the old code runs on the new schema for a while."""
    connection.cursor().execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('payments', '0099_x', now())"
    )
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db
def test_a_lost_media_folder_makes_it_unready(client: Client, media_root: Path) -> None:
    media_root.rmdir()
    assert unready(client) == HEALTHY | {"configuration": "unhealthy"}


@pytest.mark.django_db
def test_a_lost_certificate_makes_it_unready(
    client: Client, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = connection.settings_dict["OPTIONS"] | {"sslrootcert": "/nowhere/ca.crt"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    assert unready(client) == HEALTHY | {"configuration": "unhealthy"}


@pytest.mark.django_db
def test_a_check_that_breaks_is_no_error_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setitem(health.CHECKS, "queue", broken)
    answer = client.get("/health/ready")
    assert answer.json()["checks"] == HEALTHY | {"queue": "unhealthy"}
    assert "hunter2" not in answer.text
