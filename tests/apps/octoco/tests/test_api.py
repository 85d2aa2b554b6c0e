"""The API with a PostgreSQL, and tasks in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import health

if TYPE_CHECKING:
    from django.test import Client


@pytest.mark.django_db
def test_queued_deposits_are_each_written_once(client: Client) -> None:
    batch = {"batch": "a", "count": "3"}
    assert client.post("/api/v1/deposits/", batch, secure=True).status_code == 202
    answer = client.get("/api/v1/deposits/?batch=a", secure=True).json()
    assert (answer["rows"], answer["numbers"]) == (3, 3)


def test_plain_http_leads_to_https(client: Client) -> None:
    assert client.get("/health")["Location"] == "https://testserver/health"


@pytest.mark.django_db
@pytest.mark.parametrize(("worker", "status"), [(True, 200), ("starting", 200), (False, 503)])
def test_health_needs_a_worker(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    worker: bool | str,  # noqa: FBT001 - a value of the table
    status: int,
) -> None:
    def celery() -> bool | str:
        return worker

    monkeypatch.setattr(health, "celery", celery)
    answer = client.get("/health", secure=True)
    assert (answer.status_code, answer.json()["celery"]) == (status, worker)
