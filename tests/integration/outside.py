"""One HTTP server for all that a delivery talks to: the app, GitHub, the webhook, advisories."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

REVIEWERS = {"protection_rules": [{"type": "required_reviewers"}, {"type": "branch_policy"}]}
ADVISORY = {
    "id": "PYSEC-2026-1",
    "summary": "made for this test",
    "affected": [{"package": {"name": "django", "ecosystem": "PyPI"}, "versions": ["5.2.19"]}],
}


@dataclass
class World:
    """What the server answers and was asked.

    Attributes:
        address: where it listens.
        healthy: whether the app is.
        writes: whether its workers write what is queued.
        environment: what GitHub has of the environment; None when there is none.
        vulnerable: the packages with an advisory.
        messages: what the webhook got.
        batches: queued deposits.
        asked: the paths, and who asked.

    """

    address: str = ""
    healthy: bool = True
    writes: bool = True
    environment: dict[str, Any] | None = field(default_factory=lambda: dict(REVIEWERS))
    vulnerable: set[str] = field(default_factory=set)
    messages: list[dict[str, Any]] = field(default_factory=list)
    batches: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(  # noqa: PLR0911 - one a path
        self, path: str, query: str, body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Return a status and what is answered."""
        if path == "/health":
            status = "healthy" if self.healthy else "unhealthy"
            return (200 if self.healthy else 503), {"status": status}
        if path == "/api/v1/deposits/":
            if body:
                sent = parse_qs(body.decode())
                self.batches[sent["batch"][0]] = int(sent["count"][0])
                return 202, {"queued": int(sent["count"][0])}
            rows = self.batches[parse_qs(query)["batch"][0]] if self.writes else 0
            return 200, {"rows": rows, "numbers": rows}
        if path == "/repos/team/app/environments/production":
            return (404, {}) if self.environment is None else (200, self.environment)
        if path == "/hook":
            self.messages.append(json.loads(body))
            return 200, {}
        if path == "/v1/query":
            name = json.loads(body)["package"]["name"]
            return 200, {"vulns": [ADVISORY]} if name in self.vulnerable else {}
        return 404, {"path": path}


class _Handler(BaseHTTPRequestHandler):
    world: ClassVar[World]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        place = urlsplit(self.path)
        self.world.asked.append((place.path, self.headers.get("Authorization", "")))
        status, found = self.world.answer(place.path, place.query, body)
        text = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def world() -> Iterator[World]:
    """Serve until the end of the block."""
    made = World()
    handler = type("Handler", (_Handler,), {"world": made})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
