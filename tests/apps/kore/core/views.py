"""The API."""

from collections.abc import Callable

from config.celery import app as celery_app
from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from core.models import Note
from core.tasks import add, record


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _broker() -> None:
    with celery_app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, timeout=2)


PARTS: dict[str, Callable[[], object]] = {
    "database": _database,
    "cache": lambda: caches["default"].get("health"),
    "store": lambda: caches["store"].get("health"),
    "broker": _broker,
}


def health(_request: HttpRequest) -> JsonResponse:
    """Say which parts answer."""
    failed = []
    for name, check in PARTS.items():
        try:
            check()
        except Exception:  # noqa: BLE001 - whatever it is, that part doesn't answer
            failed.append(name)
    return JsonResponse({"failed": failed}, status=503 if failed else 200)


@require_POST
def sums(request: HttpRequest) -> JsonResponse:
    """Let a worker add the numbers."""
    numbers = [int(text) for text in request.POST["numbers"].split(",")]
    return JsonResponse(add.delay(numbers).get(timeout=30))


def visits(request: HttpRequest) -> JsonResponse:
    """Count the visits of a session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse(
        {"visits": request.session["visits"], "ticks": caches["store"].get("ticks")}
    )


@require_POST
def notes(request: HttpRequest) -> JsonResponse:
    """Write a row."""
    Note.objects.create(text=request.POST["text"])
    return JsonResponse({"notes": Note.objects.count()}, status=201)


def tasks(request: HttpRequest) -> JsonResponse:
    """Hand a worker a row of a batch to write; or count the batch's rows, and its tasks."""
    if request.method == "POST":
        return JsonResponse({"task": record.delay(request.POST["batch"]).id}, status=202)
    rows = Note.objects.filter(text__startswith=f"{request.GET['batch']} ")
    return JsonResponse({"rows": rows.count(), "tasks": rows.values("text").distinct().count()})
