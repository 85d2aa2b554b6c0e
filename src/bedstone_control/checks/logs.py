"""Check the collector of the logs: its name, and the certificates for it on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography import x509

from bedstone_control.checks.certificates import check_encrypted, check_key
from bedstone_control.roles import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.logs import Collector
    from bedstone_control.settings.root import Settings


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check `bedstone_logs`."""
    if settings.logs is None:
        return
    given = settings.logs.to
    place: Place = ("bedstone_logs", "to")
    yield from _names(context, place, given)
    if given.ca is not None:
        example: Any = {"ca": "files/logs-ca.crt"}
        yield from _certificate(context, (*place, "ca"), given.ca, example)
    if given.client is not None:
        where = (*place, "client", "certificate")
        example = {"certificate": "files/logs-client.crt"}
        yield from _certificate(context, where, given.client.certificate, example)
        yield from _key(context, (*place, "client", "key"), given)


def _names(context: Context, place: Place, given: Collector) -> Iterator[Problem]:
    """Check the host, the name in its certificate, and that nothing travels in plain text."""
    for key in ("host", "name"):
        value = getattr(given, key)
        if value is not None and not logs.HOST.fullmatch(value):
            message = f"{value!r} can't be the name of a host."
            yield context.problem((*place, key), message, {key: "logs.example.com"})
    if not given.tls and not logs.is_loopback(given.host):
        message = (
            f"`tls` is false and {given.host} is another host: the logs would travel in plain "
            "text. Leave `tls` out, or send to a program on the server itself."
        )
        yield context.problem((*place, "tls"), message, {"host": "127.0.0.1", "tls": False})
    if given.tls and logs.is_address(given.name or given.host):
        message = "The collector's certificate is verified by its name, and this is an address."
        example = {"host": given.host, "name": "logs.example.com"}
        yield context.problem((*place, "name"), message, example)
    if not given.tls and (given.ca or given.client):
        message = "There are certificates for the collector, and `tls` is false."
        yield context.problem((*place, "tls"), message, {"tls": True})


def _certificate(context: Context, place: Place, text: str, example: Any) -> Iterator[Problem]:
    path = context.path(text)
    if not path.is_file():
        yield context.problem(place, f"There is no file {path}.", example)
        return
    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        yield context.problem(place, f"{path} holds no certificate in PEM form.", example)


def _key(context: Context, place: Place, given: Collector) -> Iterator[Problem]:
    """Check that the client's key is there, encrypted, and that of its certificate."""
    assert given.client is not None
    path, certificate = context.path(given.client.key), context.path(given.client.certificate)
    if not path.is_file():
        message = f"There is no file {path}."
        yield context.problem(place, message, {"key": "files/logs-client.key"})
        return
    yield from check_encrypted(context, place, path)
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError):
        return  # said already
    yield from check_key(context, place, leaf, path)
