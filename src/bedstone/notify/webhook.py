"""Post a JSON document to an address, as Slack, Mattermost and many others take it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bedstone import __version__
from bedstone.notify.child import SendError, why

_READ_BYTES = 200
# Slack's `no_service`, `invalid_token`, ...: a page may repeat the address, a word doesn't.
_REASON = re.compile(r"[a-z]+(_[a-z]+)+")
_REDIRECTS = range(300, 400)


def post(url: str, document: Mapping[str, object], seconds: float) -> None:
    """Post a document.

    Args:
        url: where to, with ``user:password@`` if it asks for these.
        document: sent as JSON.
        seconds: for each step of the conversation; the caller ends the whole.

    Raises:
        SendError: it didn't answer with 2xx.

    """
    address, headers = _split(url)
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        address,
        data=json.dumps(document).encode(),
        headers={
            "Content-Type": "application/json",
            "User-Agent": f"bedstone/{__version__}",
            **headers,
        },
    )
    opener = urllib.request.build_opener(
        _NoRedirects, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    try:
        # Its status is all we ask for: what follows may take for ever.
        opener.open(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        with error:
            raise SendError(_answer(error)) from None
    except urllib.error.URLError as error:
        raise SendError(why(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise SendError(why(error)) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Sends the document only to the address in the settings."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


def _split(url: str) -> tuple[str, dict[str, str]]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        raise SendError("has an address that is no http:// or https:// one")
    if parts.username is None:
        return url, {}
    name = f"[{host}]" if ":" in host else host
    place = f"{name}:{port}" if port else name
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    token = base64.b64encode(login.encode()).decode()
    return urlunsplit(parts._replace(netloc=place)), {"Authorization": f"Basic {token}"}


def _answer(error: urllib.error.HTTPError) -> str:
    said = f"answered {error.code}"
    if error.code in _REDIRECTS:
        return f"{said}, a redirect: use the address it leads to"
    try:
        word = error.read(_READ_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return said
    return f"{said} ({word})" if _REASON.fullmatch(word) else said
