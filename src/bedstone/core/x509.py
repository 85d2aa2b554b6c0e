"""Read certificates (RFC 5280, DER) with the standard library alone."""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_COMMON_NAME, _ALTERNATIVE_NAMES, _AUTHORITY_KEY = b"\x55\x04\x03", b"\x55\x1d\x11", b"\x55\x1d\x23"
_UTC_TIME, _GENERALIZED_TIME, _VERSION, _EXTENSIONS = 0x17, 0x18, 0xA0, 0xA3
_KEY_IDENTIFIER, _DNS_NAME = 0x80, 0x82


def browser_context() -> ssl.SSLContext:
    """Return a TLS client's context that accepts the certificates that browsers accept.

    From Python 3.13 on the default one refuses, of any authority, what RFC 5280 asks and browsers
    don't (VERIFY_X509_STRICT): a certificate without an authority key identifier, for instance.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@dataclass(frozen=True)
class Certificate:
    """A certificate as it is judged.

    Attributes:
        subject: its common name.
        start: from when it is valid.
        end: until when.
        digest: SHA-256 of its bytes.
        serial: its serial number, as the bytes of DER's integer.
        authority_key: the identifier of the key that signed it, empty without one.
        domains: the DNS names that it is for.

    """

    subject: str
    start: datetime
    end: datetime
    digest: str
    serial: bytes = b""
    authority_key: bytes = b""
    domains: tuple[str, ...] = ()

    def used(self, now: datetime) -> float:
        """Return how much of its life is over: 0 to 1, more after its end."""
        return (now - self.start) / max(self.end - self.start, timedelta(seconds=1))


def first(pem: str) -> Certificate:
    """Return the first certificate of a PEM text.

    Raises:
        ValueError: there is none in it.

    """
    block = _PEM.search(pem)
    if block is None:
        raise ValueError("there is no certificate in it")
    return parse(ssl.PEM_cert_to_DER_cert(block[0]))


def parse(der: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        ValueError: it isn't one.

    """
    try:
        (_, whole), *_ = _parts(der)
        (_, signed), *_ = _parts(whole)
        parts = list(_parts(signed))
        # version (optional), serial number, algorithm, issuer, validity, subject
        parts = parts[1:] if parts[0][0] == _VERSION else parts
        start, end = (_moment(tag, body) for tag, body in _parts(parts[3][1]))
        found = _extensions(next((body for tag, body in parts if tag == _EXTENSIONS), b""))
        keys = _parts(found.get(_AUTHORITY_KEY, b""))
        return Certificate(
            _name(parts[4][1]),
            start,
            end,
            hashlib.sha256(der).hexdigest(),
            parts[0][1],
            next((body for tag, body in keys if tag == _KEY_IDENTIFIER), b""),
            tuple(
                body.decode("ascii")
                for tag, body in _parts(found.get(_ALTERNATIVE_NAMES, b""))
                if tag == _DNS_NAME
            ),
        )
    except (IndexError, ValueError) as error:
        raise ValueError(f"it is no certificate in DER ({error})") from error


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place : place + size], "big")
            place += size
        if place + length > len(data):
            raise ValueError("it is cut off")
        yield tag, data[place : place + length]
        place += length


def _moment(tag: int, body: bytes) -> datetime:
    text = body.decode("ascii")
    if tag == _UTC_TIME:
        # 50 to 99 are of the century before (RFC 5280, 4.1.2.5.1).
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("its validity is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _name(body: bytes) -> str:
    names = {}
    for _, group in _parts(body):
        for _, pair in _parts(group):
            (_, key), (_, value) = _parts(pair)
            names[key] = value.decode("utf-8", "replace")
    return names.get(_COMMON_NAME) or ", ".join(names.values())


def _extensions(body: bytes) -> dict[bytes, bytes]:
    """Return the content of each extension, without its outer sequence, by its identifier."""
    found = {}
    for _, all_of_them in _parts(body):
        for _, extension in _parts(all_of_them):
            (_, key), *_, (_, value) = _parts(extension)
            if key in {_ALTERNATIVE_NAMES, _AUTHORITY_KEY}:
                (_, found[key]), *_ = _parts(value)
    return found
