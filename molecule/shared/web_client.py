"""A client that sends exactly what a test gives it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

LIMIT_SECONDS = 15


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value, None without it; sent twice, it is an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """Return the body that the stub sent."""
        return json.loads(self.body)


@dataclass
class Client:
    """Talks to one server, whatever name it asks for."""

    address: str
    certificates: str = ""
    name: str = "pay.example.com"
    http: int = 80
    https: int = 443
    extra: dict[str, str] = field(default_factory=dict)

    def tls(self, name: str | None = None, **context_settings: Any) -> ssl.SSLSocket:
        """Return a connection after its handshake for a name ("" sends none)."""
        context = ssl.create_default_context(cadata=self.certificates)
        ciphers = context_settings.pop("ciphers", None)
        protocols = context_settings.pop("alpn", None)
        if ciphers:
            context.set_ciphers(ciphers)
        if protocols:
            context.set_alpn_protocols(protocols)
        for setting, value in context_settings.items():
            setattr(context, setting, value)
        asked = self.name if name is None else name
        if not asked:
            context.check_hostname = False
        plain = socket.create_connection((self.address, self.https), LIMIT_SECONDS)
        return context.wrap_socket(plain, server_hostname=asked or None)

    def get(self, path: str, headers: dict[str, str] | None = None, **options: Any) -> Answer:
        """Send a request over TLS; `method`, `body` and `name` are options."""
        name = options.get("name", self.name)
        body: bytes = options.get("body", b"")
        lines = {"Host": name, "Connection": "close", **(headers or {})}
        if body:
            lines["Content-Length"] = str(len(body))
        head = f"{options.get('method', 'GET')} {path} HTTP/1.1\r\n"
        head += "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        with self.tls(name) as connection:
            return exchange(connection, head.encode() + b"\r\n" + body)

    def plain(self, path: str, host: str, method: str = "GET") -> Answer | None:
        """Send a request without TLS; None when the server closes without a word."""
        with socket.create_connection((self.address, self.http), LIMIT_SECONDS) as connection:
            request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            try:
                return exchange(connection, request.encode())
            except ConnectionError:
                return None


def exchange(connection: socket.socket, request: bytes) -> Answer:
    """Send bytes and return the answer to them."""
    # A server that refuses before it has read all closes, and its answer is there.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(request)
    response = HTTPResponse(connection)
    response.begin()
    return Answer(response.status, response.getheaders(), response.read())
