"""The API with a PostgreSQL, and tasks in the same process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from celery.signals import heartbeat_sent
from django.core.cache import cache

from core import alive

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
def test_health_needs_a_workers_heartbeat_of_late(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> tuple[int, bool]:
        answer = client.get("/health", secure=True)
        return answer.status_code, answer.json()["celery"]

    cache.clear()
    assert told() == (503, False)
    heartbeat_sent.send(sender=None)
    assert told() == (200, True)
    monkeypatch.setattr(alive, "SECONDS", 0.01)
    heartbeat_sent.send(sender=None)
    time.sleep(0.02)
    assert told() == (503, False)
