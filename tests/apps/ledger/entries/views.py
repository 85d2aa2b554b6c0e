"""Requests of every kind that a release must not break."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator

from django.db import IntegrityError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_POST
from ledger import behaviour
from ledger_version import VERSION

from entries.models import Entry

CONTAINER = os.uname().nodename
CHUNK = bytes(range(256)) * 64
CHUNKS_A_SECOND = 10


def name_the_release(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[..., HttpResponse]:
    """Say in every answer which release and which container it comes from."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if behaviour.has("fail_behind_nginx") and "X-Request-Id" in request.headers:
            response = HttpResponse("broken behind the proxy\n", status=500)
        else:
            response = get_response(request)
        response["X-Version"], response["X-Container"] = VERSION, CONTAINER
        return response

    return middleware


def version(_request: HttpRequest) -> HttpResponse:
    """Say which release this is."""
    return JsonResponse({"version": VERSION, "host": CONTAINER, "secret": os.environ.get("MARK")})


def session(request: HttpRequest) -> HttpResponse:
    """Count the visits of a session, which the secret key signs."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"], "version": VERSION})


def health(_request: HttpRequest) -> HttpResponse:
    """Say ok if the database answers."""
    if behaviour.has("never_healthy"):
        return HttpResponse("not well, as it was told\n", status=503)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")


@require_POST
def create(request: HttpRequest) -> HttpResponse:
    """Write one row and acknowledge it."""
    client_id = request.body.decode()
    try:
        Entry.objects.create(client_id=client_id, version=VERSION, container=CONTAINER)
    except IntegrityError as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({"id": client_id, "version": VERSION, "host": CONTAINER}, status=201)


def slow(_request: HttpRequest, seconds: int) -> HttpResponse:
    """Take that long."""
    time.sleep(seconds)
    return JsonResponse({"version": VERSION, "host": CONTAINER})


def stream(_request: HttpRequest, seconds: int) -> HttpResponse:
    """Send a file of known length and checksum, slowly."""
    count = seconds * CHUNKS_A_SECOND

    def chunks() -> Iterator[bytes]:
        for _ in range(count):
            yield CHUNK
            time.sleep(1 / CHUNKS_A_SECOND)

    response = StreamingHttpResponse(chunks(), content_type="application/octet-stream")
    response["Content-Length"] = str(count * len(CHUNK))
    response["X-Checksum"] = hashlib.sha256(CHUNK * count).hexdigest()
    return response
