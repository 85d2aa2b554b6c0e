"""The API."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model, login
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_POST
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from core import tasks
from core.models import Deposit, Firing


def _sent(request: Request) -> dict[str, Any]:
    """Return the fields of a body: a list has none."""
    return request.data if isinstance(request.data, dict) else {}


@api_view(["GET", "POST"])
def deposits(request: Request) -> Response:
    """Queue deposits, or say which of a batch were written down."""
    if request.method == "POST":
        batch, count = _sent(request)["batch"], int(_sent(request)["count"])
        for number in range(count):
            tasks.record.delay(batch, number)
        return Response({"queued": count}, status=202)
    rows = Deposit.objects.filter(batch=request.query_params["batch"])
    return Response(
        {
            "rows": rows.count(),
            "numbers": rows.values("number").distinct().count(),
            "containers": sorted(set(rows.values_list("container", flat=True))),
        }
    )


@api_view(["GET", "POST"])
def schedules(request: Request) -> Response:
    """Put a schedule into the database, to fire once or for a minute, or say how often one did."""
    if request.method == "POST":
        name, seconds = _sent(request)["name"], int(_sent(request)["seconds"])
        every, _ = IntervalSchedule.objects.get_or_create(
            every=seconds, period=IntervalSchedule.SECONDS
        )
        PeriodicTask.objects.create(
            name=name,
            task="core.tasks.fire",
            interval=every,
            args=f'["{name}"]',
            one_off=_sent(request).get("once") == "yes",
            expires=timezone.now() + timedelta(minutes=1),
        )
        return Response({"scheduled": name}, status=201)
    name = request.query_params["name"]
    told: dict[str, Any] = {"firings": Firing.objects.filter(schedule=name).count()}
    told["enabled"] = PeriodicTask.objects.get(name=name).enabled
    return Response(told)


@require_POST
def session(request: HttpRequest) -> JsonResponse:
    """Log a person in, who is made where there is none of that name."""
    user, _ = get_user_model().objects.get_or_create(
        username=request.POST["name"], defaults={"email": request.POST["address"]}
    )
    login(request, user)
    return JsonResponse({"name": user.get_username()})


@require_POST
def failures(request: HttpRequest) -> JsonResponse:
    """Fail with a person's data at hand, here or in a worker."""
    address = request.POST["address"]
    if request.POST.get("where") == "worker":
        tasks.fail.delay(address)
        return JsonResponse({"queued": 1}, status=202)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [address])
    raise RuntimeError(f"no deposit of {address} in a request")
