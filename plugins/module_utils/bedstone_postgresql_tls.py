"""Find the certificate that PostgreSQL serves, and whether it is the one in its file.

PostgreSQL reports a reload as done even when it could not take the new files: a key that does
not belong to the certificate leaves the old certificate in service and makes the *next restart*
fail. Only asking the server shows it.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
from pathlib import Path

SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's protocol, "SSLRequest"
CONNECT_TIMEOUT_SECONDS = 5.0
LOOPBACK = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


class ServerError(Exception):
    """The server isn't as its files say; the text says where and what to do."""


def addresses(listen_addresses: str) -> list[str]:
    """Return one address to connect to for each entry of PostgreSQL's listen_addresses."""
    found: list[str] = []
    for entry in listen_addresses.split(","):
        address = LOOPBACK.get(entry.strip(), entry.strip())
        if address and address not in found:
            found.append(address)
    return found


def first_certificate(path: str | Path) -> bytes:
    """Return the first certificate of a PEM file, in DER: the one a server presents.

    Raises:
        ServerError: the file can't be read or holds no certificate.

    """
    end = "-----END CERTIFICATE-----"
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
        start = text.index("-----BEGIN CERTIFICATE-----")
        return ssl.PEM_cert_to_DER_cert(text[start : text.index(end, start) + len(end)])
    except (OSError, ValueError) as error:
        raise ServerError(f"{path} holds no certificate that can be read: {error}") from error


def served_certificate(address: str, port: int) -> bytes:
    """Return the certificate, in DER, that PostgreSQL presents on an address.

    Raises:
        ServerError: nothing listens, or what does speaks no TLS.

    """
    where = f"{address} port {port}"
    # Only *which* certificate is asked; whether it can be trusted is the clients' check.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), CONNECT_TIMEOUT_SECONDS) as plain:
            plain.sendall(SSL_REQUEST)
            if plain.recv(1) != b"S":
                raise ServerError(f"PostgreSQL on {where} answers without TLS: is `ssl` on?")
            with context.wrap_socket(plain) as secured:
                return secured.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise ServerError(
            f"PostgreSQL doesn't answer on {where} ({error}). It listens only on addresses that "
            "existed when it started: once the address is there (`ip address` shows it), "
            "`systemctl restart postgresql`."
        ) from error


def served_problems(listen_addresses: str, port: int, certificate: str | Path) -> list[str]:
    """Return a sentence for every listening address that doesn't serve the file's certificate.

    Args:
        listen_addresses: PostgreSQL's setting of that name.
        port: the port on all of them.
        certificate: path of the PEM file.

    """
    try:
        wanted = first_certificate(certificate)
    except ServerError as error:
        return [str(error)]
    problems = []
    for address in addresses(listen_addresses):
        try:
            served = served_certificate(address, port)
        except ServerError as error:
            problems.append(str(error))
            continue
        if served != wanted:
            problems.append(
                f"PostgreSQL on {address} port {port} serves another certificate (sha256 "
                f"{_fingerprint(served)}) than {certificate} holds ({_fingerprint(wanted)}). "
                "Either it was not reloaded since the file changed, or it could not load the "
                "file: then the key beside it belongs to another certificate, and the next "
                "restart would fail. `systemctl reload postgresql@*` tries it and says which."
            )
    return problems


def pair_problems(certificate: str | Path, key: str | Path) -> list[str]:
    """Return what keeps a server from using this certificate with this key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one too
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            return [f"The key {key} doesn't belong to the certificate {certificate}."]
        return [f"The certificate {certificate} and its key {key} can't be loaded: {error}"]
    return []


def _fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()[:16]
