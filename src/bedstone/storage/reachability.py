"""Check within seconds whether a destination can be reached, and report the cause if not.

The engines retry for a quarter of an hour, and lose ssh's messages.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run, tail
from bedstone.storage import destinations

if TYPE_CHECKING:
    from bedstone.storage.destinations import Destination

UNREACHABLE = "unreachable"
HOST_KEY = "host key"
REFUSED = "refused"

HOST_KEY_WORDS = (
    r"host key is known for|host key verification failed|remote host identification has changed"
)
REFUSED_WORDS = (
    r"permission denied \(|too many authentication failures|access denied|AccessDenied"
    r"|InvalidAccessKeyId|SignatureDoesNotMatch|403 Forbidden|signature we calculated"
)
UNREACHABLE_WORDS = (
    r"connection refused|timed out|timeout|could not resolve|no such host|no route to host"
    r"|network is unreachable|connection closed|connection reset|unable to start the sftp session"
    r"|dial tcp|x509:|broken pipe|502 bad gateway|503 service"
)
_CONNECT_SECONDS = 15.0
_SSH_SECONDS = 60.0


class ReachError(BedstoneError):
    """A destination can't be reached; ``reason`` says in a word why."""

    def __init__(
        self, message: str, reason: str, *, hint: str | None = None, details: str = ""
    ) -> None:
        super().__init__(message, hint=hint, details=details)
        self.reason = reason


def require(destination: Destination) -> None:
    """Connect once, and close.

    Raises:
        ReachError: no name, no answer, no valid certificate.

    """
    if destination.is_local:
        return
    if destination.type == destinations.S3:
        host, _, port = destination.endpoint.partition(":")
        address = (host, int(port or 443))
    else:
        address = (destination.host, destination.port)
    try:
        with socket.create_connection(address, timeout=_CONNECT_SECONDS) as connection:
            if destination.type == destinations.S3:
                context().wrap_socket(connection, server_hostname=address[0]).close()
    except ssl.SSLCertVerificationError as error:
        raise ReachError(
            f"The certificate of {destination.name} ({destination.endpoint}) isn't valid:"
            f" {error.verify_message}.",
            REFUSED,
            hint="Is its authority known to this server (`bedstone_extra_ca_certificates` in the"
            " settings), and does the name fit?",
        ) from error
    except OSError as error:
        raise ReachError(
            f"{destination.name} ({destination.words()}) can't be reached: {error}.",
            UNREACHABLE,
            hint="Is the server up, and its port open to this one?",
        ) from error


def ssh(destination: Destination, *options: str) -> list[str]:
    """Return the command line of ssh that speaks SFTP with a destination, without prompts."""
    return [*ssh_login(destination, *options, "-s"), "sftp"]


def ssh_login(destination: Destination, *options: str) -> list[str]:
    """Return the command line of ssh that logs in at a destination, without prompts."""
    secrets = destination.secrets
    return [
        "ssh", "-F", "none", "-p", str(destination.port), "-l", destination.user,
        "-i", str(secrets / "id"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
        "-o", f"UserKnownHostsFile={secrets / 'known_hosts'}",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
        "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4",
        *options, "--", destination.host,
    ]  # fmt: skip


def ssh_problem(destination: Destination) -> ReachError | None:
    """Return why ssh doesn't get to a destination, or None if it does."""
    try:
        ended = run(ssh(destination), check=False, timeout=_SSH_SECONDS)
    except CommandError as error:
        return ReachError(error.message, UNREACHABLE)
    said = tail(ended.stderr, 8)
    where = f"{destination.name} ({destination.words()})"
    if re.search(HOST_KEY_WORDS, said, re.IGNORECASE):
        return ReachError(
            f"The host key of {where} isn't the one that is declared.",
            HOST_KEY,
            hint="Somebody may be in between. If the server was made anew, ask whoever runs it for"
            " its key, put it into `host_keys` of the destination and run `provision.yml`.",
            details=said,
        )
    if re.search(REFUSED_WORDS, said, re.IGNORECASE):
        return ReachError(
            f"{where} refuses this server's key.",
            REFUSED,
            hint="Is the public part of the destination's `private_key` in the account's"
            " authorized_keys?",
            details=said,
        )
    # Closed standard input ends a session that works with 0.
    if ended.returncode != 0 and re.search(UNREACHABLE_WORDS, said, re.IGNORECASE):
        return ReachError(f"{where} can't be reached: {tail(said, 1)}", UNREACHABLE, details=said)
    return None


def context() -> ssl.SSLContext:
    """Return what checks a service's certificate against the authorities of this server."""
    checked = ssl.create_default_context()
    # The engines accept what newer Pythons find too lax in an authority's certificate.
    checked.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return checked
