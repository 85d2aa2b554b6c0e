"""A stand-in for Sentry and Slack: it records the body of every request."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# gzip's header, as zlib takes it.
_GZIP = 16 + zlib.MAX_WBITS


class Receiver:
    """What was sent, in the order in which it came: path and body."""

    def __init__(self, address: str, port: int) -> None:
        """Take where it listens."""
        self.place = f"{address}:{port}"
        self.received: list[tuple[str, bytes]] = []

    @property
    def dsn(self) -> str:
        """Return the address that Sentry's SDK takes."""
        return f"http://0123456789abcdef0123456789abcdef@{self.place}/7"

    def envelopes(self, after: int = 0) -> list[bytes]:
        """Return the envelopes that came after the first so many requests."""
        return [body for path, body in self.received[after:] if path == "/api/7/envelope/"]

    def wait_for(
        self, wanted: Callable[[bytes], bool], what: str, *, after: int = 0, seconds: float = 180
    ) -> bytes:
        """Wait for an envelope, and return it."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            for body in self.envelopes(after):
                if wanted(body):
                    return body
            time.sleep(0.2)
        raise AssertionError(f"No envelope with {what} in {seconds} s: {self.received[after:]}")


def items(envelope: bytes) -> list[tuple[str, Any]]:
    """Return the items of an envelope, each with its type.

    https://develop.sentry.dev/sdk/data-model/envelopes/
    """
    _, _, rest = envelope.partition(b"\n")
    found = []
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        length = header.get("length")
        payload, rest = (
            (rest[:length], rest[length:].removeprefix(b"\n"))
            if length is not None
            else rest.split(b"\n", 1)
        )
        found.append((str(header["type"]), json.loads(payload)))
    return found


@contextmanager
def listening(address: str) -> Iterator[Receiver]:
    """Listen on a free port of an address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompress(body, _GZIP)
            receiver.received.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer((address, 0), Handler)
    receiver = Receiver(address, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
