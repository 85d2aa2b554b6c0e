"""Send a mail by SMTP."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from bedstone.notify.child import SendError, why


def send(
    account: Mapping[str, Any],
    recipients: Sequence[str],
    subject: str,
    body: str,
    seconds: float,
) -> None:
    """Send one message to all recipients.

    Args:
        account: server, port, security (starttls, tls, none), sender, user, password.
        recipients: mail addresses.
        subject: one line.
        body: plain text.
        seconds: for each step of the conversation; the caller ends the whole.

    Raises:
        SendError: the server refused it, or some of its recipients.

    """
    message = compose(str(account["sender"]), recipients, subject, body)
    try:
        with _connect(account, seconds) as server:
            if account["user"]:
                server.login(account["user"], account["password"] or "")
            refused = server.send_message(message)
    except smtplib.SMTPException as error:
        raise SendError(_answer(error)) from None
    except OSError as error:
        raise SendError(why(error)) from None
    if refused:
        raise SendError(f"refused {', '.join(refused)}")


def _answer(error: smtplib.SMTPException) -> str:
    """Return what the server said, in our words: its own may repeat the login."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"refused the login ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"refused {', '.join(error.recipients)}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"answered {error.smtp_code}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "doesn't offer what `security` and `user` ask for"
    return f"gave no proper answer: {type(error).__name__}"


def compose(sender: str, recipients: Sequence[str], subject: str, body: str) -> EmailMessage:
    """Return the message."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=socket.gethostname())
    # No out-of-office notes for a machine.
    message["Auto-Submitted"] = "auto-generated"
    # Not every server takes eight bits.
    message.set_content(body, cte="quoted-printable")
    return message


def _connect(account: Mapping[str, Any], seconds: float) -> smtplib.SMTP:
    server, port = str(account["server"]), int(account["port"])
    # The short name: smtplib would ask the DNS for the full one.
    name = socket.gethostname()
    context = ssl.create_default_context()
    if account["security"] == "tls":
        return smtplib.SMTP_SSL(server, port, name, timeout=seconds, context=context)
    connection = smtplib.SMTP(server, port, name, timeout=seconds)
    try:
        if account["security"] == "starttls":
            connection.starttls(context=context)
    except BaseException:
        connection.close()
        raise
    return connection
