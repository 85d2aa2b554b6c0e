"""One line of JSON for each request."""

import logging
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("octoco.requests")


class RequestLog:
    """Middleware that logs method, path, status, duration and nginx's request id."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """Take what answers."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, then log."""
        begun = time.monotonic()
        response = self.get_response(request)
        logger.info(
            "request",
            extra={
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "duration_ms": round((time.monotonic() - begun) * 1000, 1),
                "request_id": request.headers.get("X-Request-Id"),
            },
        )
        return response
