"""Small middleware: request ids, health checks, and a content security policy."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from config import health, logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseBase

    GetResponse = Callable[[HttpRequest], HttpResponseBase]

# Scripts, styles and images come from this site alone; nothing may frame it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# A proxy's id is taken over; anything that could forge a log line is not.
ACCEPTED_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


class RequestIdMiddleware:
    """Gives each request an id, for its log lines and its response (X-Request-ID)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Take the proxy's X-Request-ID if it is a sound one, else make one."""
        given = request.headers.get("X-Request-ID", "")
        current = given if ACCEPTED_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        # Never reset: Django logs a 4xx or 5xx after the last middleware has returned, and
        # the thread's next request brings its own.
        logs.request_id.set(current)
        response = self.get_response(request)
        response.headers["X-Request-ID"] = current
        return response


class HealthMiddleware:
    """Answers health checks before Django looks at Host, scheme, session or database.

    A load balancer asks by IP address over plain HTTP: ALLOWED_HOSTS and the redirect to
    HTTPS would refuse it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a health check; pass everything else on."""
        return health.respond(request) or self.get_response(request)


class ContentSecurityPolicyMiddleware:
    """Sends the content security policy with every response."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Add the header unless the view has set its own."""
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response
