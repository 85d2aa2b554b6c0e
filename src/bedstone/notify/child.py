"""Send one webhook or mail, in a separate process that reads its order from standard input.

It prints one line, the reason, when it fails. That line holds no address and
no password.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from typing import Any


class SendError(Exception):
    """It wasn't taken; the text follows a hook's name: "answered 500"."""


def main() -> None:
    """Carry out the order and exit 0, or print the reason and exit 1."""
    try:
        send(json.load(sys.stdin))
    except SendError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a traceback would show the address
        reason = f"failed: {type(error).__name__}"
    else:
        sys.exit(0)
    print(reason)
    sys.exit(1)


def send(order: dict[str, Any]) -> None:
    """Send a webhook or a mail.

    Raises:
        SendError: it wasn't taken.

    """
    if "webhook" in order:
        from bedstone.notify import webhook  # noqa: PLC0415 - a mail needs no urllib

        webhook.post(order["webhook"], order["document"], order["seconds"])
    else:
        from bedstone.notify import mail  # noqa: PLC0415 - a webhook needs no smtplib

        mail.send(
            order["mail"],
            order["recipients"],
            order["subject"],
            order["body"],
            order["seconds"],
        )


def why(reason: object) -> str:
    """Return what went wrong, in words that hold nothing of the address."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"has a certificate that this server doesn't trust: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError):
        return f"can't agree on TLS: {reason.reason or 'the connection ended'}"
    if isinstance(reason, socket.gaierror):
        return f"can't be found: {reason.strerror}"
    if isinstance(reason, TimeoutError):
        return "didn't answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return f"can't be reached: {reason.strerror}"
    return f"gave no proper answer: {type(reason).__name__}"
