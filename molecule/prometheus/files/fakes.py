"""Stand-ins on the server: two exporters, and what receives alerts. All on localhost.

Port 9443 answers over TLS to the client `bedstone-monitoring` alone, as the servers' metrics do;
9101 in plain text; 8025 takes webhooks; 8587 mail, after STARTTLS and a login.
"""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

HERE = Path("/var/lib/molecule-fakes")
TLS = Path("/etc/bedstone/tls")
LOCK = threading.Lock()


def record(entry: dict[str, Any]) -> None:
    """Append a message to the list that tests read."""
    with LOCK, (HERE / "messages").open("a") as handle:
        handle.write(json.dumps({"at": time.time(), **entry}) + "\n")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes webhooks."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        record({"way": "webhook", "path": self.path, "body": body})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Exporter(http.server.BaseHTTPRequestHandler):
    """Gives out the file of a module."""

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        name = urllib.parse.parse_qs(parts.query).get("module", ["own"])[0]
        if isinstance(self.connection, ssl.SSLSocket):
            subject = dict(pair[0] for pair in self.connection.getpeercert()["subject"])
            if subject.get("commonName") != "bedstone-monitoring" or parts.path != "/proxy":
                self.send_error(403)
                return
        file = HERE / f"{name}.metrics"
        if not file.exists():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(file.read_bytes())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Mailbox:
    """Takes mail."""

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        record(
            {
                "way": "mail",
                "to": envelope.rcpt_tos,
                "body": envelope.content.decode(),
                "tls": session.ssl is not None,
                "login": session.auth_data,
            }
        )
        return "250 OK"


def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    """Take the one account."""
    return AuthResult(
        success=(data.login, data.password) == (b"bedstone", b"s3cret-of-the-mail"),
        auth_data=data.login.decode(),
    )


def serve(
    handler: type[Receiver | Exporter], port: int, context: ssl.SSLContext | None = None
) -> None:
    """Serve HTTP in the background."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def server_context(*, client: bool) -> ssl.SSLContext:
    """Return the context of a server with the certificate of this scenario."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "fakes.crt", TLS / "fakes.key")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(TLS / "ca.crt")
    return context


serve(Receiver, 8025)
serve(Exporter, 9101)
serve(Exporter, 9443, server_context(client=True))
Controller(
    Mailbox(),
    hostname="127.0.0.1",
    port=8587,
    tls_context=server_context(client=False),
    require_starttls=True,
    auth_required=True,
    auth_exclude_mechanism=["LOGIN"],
    authenticator=login,
).start()
threading.Event().wait()
