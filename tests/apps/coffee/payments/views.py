"""The API."""

from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_POST

from payments import session, tasks
from payments.models import Device, Order


def health(_request: HttpRequest) -> JsonResponse:
    """Say that the process runs: no query, nobody is asked."""
    return JsonResponse({"status": "healthy", "timestamp": timezone.now().isoformat()})


@require_POST
def orders(request: HttpRequest) -> JsonResponse:
    """Take an order, and let a worker have it paid."""
    device, _ = Device.objects.get_or_create(serial=request.POST["device"])
    order = Order.objects.create(device=device, cents=int(request.POST["cents"]))
    tasks.pay.delay(order.pk).get(timeout=30)
    order.refresh_from_db()
    return JsonResponse({"order": order.pk, "paid": order.paid}, status=201)


def tls(_request: HttpRequest) -> JsonResponse:
    """Say how the web server and a worker reach the database."""
    worker = tasks.session_facts.delay().get(timeout=30)
    return JsonResponse({"web": session.facts(), "worker": worker})
