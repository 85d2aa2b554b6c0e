"""Open connections to a server as a client on the network does, and tell their outcome."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509

from bedstone.core.x509 import browser_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SECONDS = 10.0
# Half-open connections wait this long at a firewall that drops; a SYN is repeated after one second.
SCAN_SECONDS = 2.5
AT_ONCE = 4000
_LONGEST_HEAD = 64 * 1024
# Of this machine, not of the server: a port is then not known to be closed.
_OWN_FAULTS = {
    errno.EADDRNOTAVAIL,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EACCES,
    errno.EPERM,
}
_OLD = {ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1}


class NoAnswerError(Exception):
    """A connection did not come about."""


@dataclass(frozen=True)
class Answer:
    """The head of an HTTP answer, and the certificate that it came under."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    certificate: x509.Certificate | None = None


def own_address(address: str) -> str:
    """Return the address that this machine has for a server.

    Raises:
        NoAnswerError: the name has no address, or no route leads there.

    """
    try:
        family, _, _, _, there = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(there)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise NoAnswerError(_reason(error)) from None


async def _connect(address: str, port: int, seconds: float) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(probe, (address, port))


async def port_fault(address: str, port: int) -> str | None:
    """Return why a TCP port is not open, None when it is."""
    try:
        await _connect(address, port, SECONDS)
    except OSError as error:
        return _reason(error)
    return None


async def open_ports(address: str, ports: Iterable[int], at_once: int = AT_ONCE) -> list[int]:
    """Return those of some TCP ports that are open.

    Args:
        address: an IP address.
        ports: the ports to try.
        at_once: how many connections are tried at the same time.

    Raises:
        ExceptionGroup: of OSError: this machine has no sockets or addresses left.

    """
    found: list[int] = []
    waiting = iter(ports)

    async def work(waiting: Iterator[int]) -> None:
        for port in waiting:
            try:
                await _connect(address, port, SCAN_SECONDS)
            except OSError as error:
                if error.errno in _OWN_FAULTS:
                    raise
            else:
                found.append(port)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work(waiting))
    return sorted(found)


def trusting(authorities: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a context that trusts this machine's authorities and further ones, as PEM text."""
    context = browser_context()
    for text in authorities:
        context.load_verify_locations(cadata=text)
    return context


def unverified() -> ssl.SSLContext:
    """Return a context that takes any certificate: to see it, and what is behind it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def speaking(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a context that speaks one version of TLS."""
    context = unverified()
    if version in _OLD:
        context.set_ciphers("ALL:@SECLEVEL=0")  # Debian's OpenSSL offers neither by default
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = version
        context.maximum_version = version
    return context


async def handshake_fault(
    address: str, port: int, domain: str, context: ssl.SSLContext
) -> str | None:
    """Return why a server refuses a TLS handshake, None when it completes it.

    Raises:
        NoAnswerError: the port is not open, or this machine's OpenSSL can't do what is asked.

    """
    if (fault := await port_fault(address, port)) is not None:
        raise NoAnswerError(fault)
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=domain
            )
    except ssl.SSLCertVerificationError as error:
        return error.verify_message or "not trusted"
    except ssl.SSLError as error:
        if error.reason in {"NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE"}:
            raise NoAnswerError("this machine's OpenSSL can't speak it") from None
        return _reason(error)
    except TimeoutError as error:
        raise NoAnswerError(_reason(error)) from None
    except (ConnectionError, EOFError) as error:
        return _reason(error)
    writer.transport.abort()
    return None


async def get(
    address: str, port: int, domain: str, path: str, context: ssl.SSLContext | None = None
) -> Answer:
    """Ask for a path by HTTP, or with a context by HTTPS.

    Raises:
        NoAnswerError: no HTTP came back.

    """
    try:
        async with asyncio.timeout(3 * SECONDS):
            reader, writer = await asyncio.open_connection(
                address,
                port,
                ssl=context,
                server_hostname=domain if context else None,
                limit=_LONGEST_HEAD,
            )
            try:
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: bedstone-audit\r\n"
                    "Accept: */*\r\nConnection: close\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                seen: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
                der = seen.getpeercert(binary_form=True) if seen else None
            finally:
                writer.transport.abort()
    except asyncio.IncompleteReadError as error:
        raise NoAnswerError("closed without an answer") from error
    except (OSError, asyncio.LimitOverrunError) as error:
        raise NoAnswerError(_reason(error)) from None
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = first.split(" ")
    if not first.startswith("HTTP/") or len(fields) < 2 or not fields[1].isdecimal():  # noqa: PLR2004 - version, status
        raise NoAnswerError("an answer that is no HTTP")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    certificate = x509.load_der_x509_certificate(der) if der else None
    return Answer(int(fields[1]), headers, certificate)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):
        return "the name has no address"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number).lower()
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).lower().replace("_", " ") or "connection closed"
