"""Check whether a service answers: directly at its address, and through nginx."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from bedstone.core import paths, x509
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Collection

PROBE_SECONDS = 5.0
FRONT_DOOR_SECONDS = 30.0
HTTPS_PORT = 443
_OK = range(200, 300)
_REDIRECTS = range(300, 400)
# Of a path that need not be a page: an API may answer 404 at its root, and 401 or 403 without a
# login. 400 is what a framework answers to a Host that is not allowed.
_BAD_REQUEST, _SERVER_ERROR = 400, 500


@dataclass(frozen=True)
class Answer:
    """The answer: whether it is right, a sentence about it, and the status if there is one."""

    ok: bool
    said: str
    status: int | None = None


def service(
    address: str,
    port: int,
    path: str,
    host: str,
    *,
    accepted: Collection[int] = (),
    seconds: float = PROBE_SECONDS,
) -> Answer:
    """Ask a service's health path, as nginx would: with the app's domain, as if by HTTPS.

    A 2xx is good, and what is accepted besides.
    """
    connection = http.client.HTTPConnection(address, port, timeout=seconds)
    try:
        connection.request("GET", path, headers=_headers(host))
        response = connection.getresponse()
        response.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        return Answer(ok=False, said=f"GET {path} got no answer: {_reason(error)}")
    finally:
        connection.close()
    said = f"GET {path} answered {response.status}"
    if location := response.headers.get("Location"):
        said += f" to {location}"
    ok = response.status in _OK or response.status in accepted
    if response.status in _REDIRECTS and not ok:
        said += f"; a redirect doesn't count, unless `accept_status: [{response.status}]` says so"
    return Answer(ok, said, response.status)


def request(path: str, host: str) -> str:
    """Return the request of :func:`service` as text, for a program without an HTTP client."""
    lines = [f"{name}: {value}" for name, value in _headers(host).items()]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""])


def _headers(host: str) -> dict[str, str]:
    return {
        "Host": host,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "127.0.0.1",
        "User-Agent": "bedstone",
        "Connection": "close",
    }


def port(address: str, number: int, *, seconds: float = PROBE_SECONDS) -> Answer:
    """Try whether something listens on a port."""
    try:
        with socket.create_connection((address, number), timeout=seconds):
            return Answer(ok=True, said=f"port {number} accepts connections")
    except OSError as error:
        return Answer(ok=False, said=f"port {number} doesn't accept: {_reason(error)}")


def front_door(domain: str, path: str, port: int = HTTPS_PORT) -> Answer:
    """Ask through nginx on this server, over TLS, as a visitor of the domain would.

    Good is what a working app may answer to a path that need not be a page: below 500, not 400,
    and no redirect to the same URL. A certificate that this server doesn't trust
    is said but doesn't count: it isn't the release's doing, and a release may
    be its cure.
    """
    try:
        return _front_door(domain, path, port, verified=True)
    except ssl.SSLCertVerificationError as error:
        untrusted = error.verify_message
    except (OSError, http.client.HTTPException) as error:
        return Answer(ok=False, said=f"https://{domain}{path} got no answer: {_reason(error)}")
    try:
        answer = _front_door(domain, path, port, verified=False)
    except (OSError, http.client.HTTPException) as error:
        return Answer(ok=False, said=f"https://{domain}{path} got no answer: {_reason(error)}")
    said = f"{answer.said} (its certificate isn't trusted here: {untrusted})"
    return Answer(answer.ok, said, answer.status)


def _front_door(domain: str, path: str, port: int, *, verified: bool) -> Answer:
    context = x509.browser_context()
    if paths.ca_certificate().exists():
        context.load_verify_locations(paths.ca_certificate())
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    connection = _LocalConnection(domain, port, context=context, timeout=FRONT_DOOR_SECONDS)
    try:
        connection.request("GET", path, headers={"User-Agent": "bedstone", "Connection": "close"})
        response = connection.getresponse()
        response.read(65_536)
    finally:
        connection.close()
    url = f"https://{domain}{'' if port == HTTPS_PORT else f':{port}'}{path}"
    said = f"https://{domain}{path} answered {response.status}"
    ok = response.status < _SERVER_ERROR and response.status != _BAD_REQUEST
    if response.status in _REDIRECTS and (location := response.headers.get("Location")):
        loop = urljoin(url, location) == url
        said += " to itself" if loop else f" to {location.partition('?')[0]}"
        ok = not loop
    return Answer(ok, said, response.status)


class _LocalConnection(http.client.HTTPSConnection):
    """HTTPS to this server, whatever address the domain has."""

    def __init__(self, domain: str, port: int, *, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(domain, port, context=context, timeout=timeout)
        self._context_for_local = context

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.sock = self._context_for_local.wrap_socket(plain, server_hostname=self.host)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def require(answer: Answer) -> str:
    """Return what was said, or raise it when it isn't good."""
    if not answer.ok:
        raise BedstoneError(answer.said)
    return answer.said
