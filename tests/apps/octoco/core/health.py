"""Readiness: database, Redis and live workers."""

from collections.abc import Callable

from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from core import alive
from octoco.celery import app as celery_app


def database() -> bool:
    """Return whether PostgreSQL answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def redis() -> bool:
    """Return whether the cache and the broker answer."""
    cache.get("health")
    with celery_app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, timeout=2)
    return True


def celery() -> bool:
    """Return whether a worker lives."""
    return alive.heard()


def _result(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # noqa: BLE001 - whatever it is, that part doesn't answer
        return False


@api_view(["GET"])
def health(_request: Request) -> Response:
    """Say which parts work."""
    checks = {check.__name__: _result(check) for check in (database, redis, celery)}
    healthy = all(checks.values())
    told = {
        "status": "healthy" if healthy else "unhealthy",
        **checks,
        "timestamp": timezone.now().isoformat(),
    }
    return Response(told, status=200 if healthy else 503)
