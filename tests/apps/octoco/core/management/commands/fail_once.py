"""Let a request fail in this process, as the web server would have it."""

import io
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import sentry_sdk
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.test import Client

from octoco.wsgi import application


class Command(BaseCommand):
    """Fail once, with a session, a body and a header that describe a person."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the person."""
        for name in ("name", "address", "authorization", "client"):
            parser.add_argument(f"--{name}", required=True)

    def handle(self, **options: Any) -> None:
        """Ask the WSGI application, then wait until Sentry has the error."""
        user, _ = get_user_model().objects.get_or_create(
            username=options["name"], defaults={"email": options["address"]}
        )
        client = Client()
        client.force_login(user)
        cookies = "; ".join(f"{name}={one.value}" for name, one in client.cookies.items())
        body = urlencode({"address": options["address"]}).encode()
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/api/v1/failures/",
            "QUERY_STRING": urlencode({"for": options["address"]}),
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": settings.ALLOWED_HOSTS[0],
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": options["client"],
            "HTTP_X_FORWARDED_PROTO": "https",
            "HTTP_COOKIE": cookies,
            "HTTP_AUTHORIZATION": options["authorization"],
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
        }
        statuses: list[str] = []

        def start_response(status: str, *_headers: object) -> Callable[[bytes], object]:
            statuses.append(status)
            return io.BytesIO().write

        answer = application(environ, start_response)
        list(answer)
        answer.close()
        sentry_sdk.flush(timeout=10)
        self.stdout.write(f"{statuses[0]} by process {os.getpid()}")
