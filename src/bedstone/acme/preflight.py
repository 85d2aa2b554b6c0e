"""Test whether the authority could prove the domains, before it is asked: failures are rationed.

A file with random content is fetched from each address of each domain, as the authority will.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from bedstone.core import files, paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WEBROOT = "/var/www/bedstone-acme"
_PATH = "/.well-known/acme-challenge/"
_SECONDS = 6.0
# Of an answer: the file is shorter.
_KEPT_BYTES = 200
# Of documentation (RFC 5737, RFC 3849): no packet is sent to them.
_ANYWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def problems(
    domains: Iterable[str],
    resolve: Callable[[str], list[str]] | None = None,
    fetch: Callable[[str, str, str], str] | None = None,
) -> list[str]:
    """Return why domains can't be proved by files on port 80, a sentence for each.

    Args:
        domains: what the certificate is for.
        resolve: returns the addresses of a name.
        fetch: returns what an address answers for a name and a path.

    """
    resolve, fetch = resolve or addresses, fetch or fetched
    token = f"preflight-{secrets.token_urlsafe(16)}"
    content = secrets.token_urlsafe(32)
    directory = paths.host(WEBROOT) / _PATH.strip("/")
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / token
    files.write(file, content)
    try:
        found = [_problem(domain, token, content, resolve, fetch) for domain in domains]
    finally:
        file.unlink(missing_ok=True)
    return [problem for problem in found if problem]


def _problem(
    domain: str,
    token: str,
    content: str,
    resolve: Callable[[str], list[str]],
    fetch: Callable[[str, str, str], str],
) -> str | None:
    try:
        found = resolve(domain)
    except OSError as error:
        return f"{domain} has no address in DNS ({_words(error)}); {_this_server()}"
    outside = [each for each in found if not ipaddress.ip_address(each).is_loopback]
    if not outside:
        # The server's own /etc/hosts says nothing of what the authority sees.
        return None
    reached, wrong = False, []
    for address in outside:
        try:
            if fetch(address, domain, f"{_PATH}{token}").strip() == content:
                reached = True
                continue
            what = "is answered by something else"
        except (OSError, HTTPException) as error:
            what = f"can't be fetched: {_words(error)}"
        wrong.append((address, what))
    # An authority that can't connect by IPv6 takes IPv4.
    if reached and all(":" in address and "fetched" in what for address, what in wrong):
        return None
    if not wrong:
        return None
    address, what = wrong[0]
    return f"{domain} resolves to {address}, {_this_server()}: http://{domain}{_PATH} {what}"


def addresses(domain: str) -> list[str]:
    """Return the addresses of a name, as this server resolves it."""
    found = socket.getaddrinfo(domain, 80, type=socket.SOCK_STREAM)
    return sorted({str(each[4][0]) for each in found})


def fetched(address: str, domain: str, path: str) -> str:
    """Return what an address answers for a name and a path, on port 80 and without redirects.

    Raises:
        OSError: it can't be reached.
        HTTPException: the answer is no success, or none.

    """
    connection = HTTPConnection(address, 80, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": domain, "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != 200:  # noqa: PLR2004 - RFC 9110
            raise HTTPException(f"the answer is {answer.status} {answer.reason}")
        return answer.read(_KEPT_BYTES).decode("ascii", "replace")
    finally:
        connection.close()


def _this_server() -> str:
    own = []
    for family, anywhere in _ANYWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))
            own.append(str(probe.getsockname()[0]))
    return f"this server is {' and '.join(own) or 'without a network'}"


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {_SECONDS:g} seconds"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
