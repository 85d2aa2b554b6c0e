"""Health checks: whether the process is alive, and whether it can serve.

    /health/live    200 with status and time; touches neither database nor network
    /health/ready   200 when every check passes, else 503 with the names of the failed ones
    /health/        the same as /health/ready

A check returns nothing when all is well and raises otherwise. What it raised goes to the
log; the answer shows only the check's name, because anybody may ask.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

logger = logging.getLogger(__name__)

LIVE = "/health/live"
READY = "/health/ready"
SHORT = "/health"


class NotReadyError(Exception):
    """A check failed, for the reason in its text (which is logged, not sent)."""


def respond(request: HttpRequest) -> HttpResponse | None:
    """Answer a health check, or return None if the request is none."""
    path = request.path_info.rstrip("/")
    if path not in {LIVE, READY, SHORT}:
        return None
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    response = live() if path == LIVE else ready()
    response.headers["Cache-Control"] = "no-store"
    return response


def live() -> HttpResponse:
    """Say that the process answers."""
    return JsonResponse({"status": "healthy", "timestamp": timezone.now().isoformat()})


def ready() -> HttpResponse:
    """Run every check; 200 if all pass, else 503."""
    results = {name: _passes(name, check) for name, check in CHECKS.items()}
    healthy = all(results.values())
    return JsonResponse(
        {
            "status": "healthy" if healthy else "unhealthy",
            "timestamp": timezone.now().isoformat(),
            "checks": {name: "healthy" if ok else "unhealthy" for name, ok in results.items()},
        },
        status=200 if healthy else 503,
    )


def _passes(name: str, check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - a health check never ends in an error page
        logger.warning("readiness check %s failed: %s", name, error)
        return False
    return True


def check_database() -> None:
    """Ask the database for something."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def check_migrations() -> None:
    """Check that the database has every migration of this release.

    More than that is fine: during a release the database is already the next one's.
    """
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
        raise NotReadyError(f"migrations are missing in the database: {names}")


def check_configuration() -> None:
    """Check what was right at the start and may have changed since: files and folders."""
    options: dict[str, str] = connection.settings_dict["OPTIONS"]
    for name in ("sslrootcert", "sslcert", "sslkey"):
        path = options.get(name, "system")
        if path != "system" and not os.access(path, os.R_OK):
            raise NotReadyError(f"the file {path} can't be read any more")
    media = Path(settings.MEDIA_ROOT)
    if not os.access(media, os.W_OK | os.X_OK):
        raise NotReadyError(f"the folder {media} can't be written to")


CHECKS: dict[str, Callable[[], None]] = {
    "configuration": check_configuration,
    "database": check_database,
    "migrations": check_migrations,
}
