"""A server's root directory, and servers that hooks talk to."""

from __future__ import annotations

import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fixtures.sites import self_signed

APP: dict[str, Any] = {
    "schema": 1,
    "name": "shop",
    "domains": ["shop.example.com"],
    "image": {"kind": "pull", "reference": "example/shop:1"},
    "services": {
        "web": {"command": ["serve"], "port": 8000, "route": "/", "health": "/health/"},
        "worker": {"command": ["work"], "replicas": 1},
    },
    "environment_file": "/etc/bedstone/apps/shop/app.env",
    "migrate_environment_file": "/etc/bedstone/apps/shop/migrate.env",
    "network": "bedstone-shop",
    "commands": {"console": ["manage", "shell"]},
    "jobs": {
        "clean": {
            "command": ["manage", "clean"],
            "schedule": "*-*-* 03:00:00",
            "timeout_seconds": 60,
            "memory_mb": 64,
            "cpus": 0.5,
            "pids": 20,
        },
        "report": {"command": ["manage", "report"]},
    },
    "secret_variables": ["DATABASE_URL", "SECRET_KEY"],
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that stands for the server's root."""
    directory = tmp_path / "root"
    directory.mkdir()
    monkeypatch.setenv("BEDSTONE_ROOT", str(directory))
    return directory


@pytest.fixture
def declared(root: Path) -> Path:
    """The app `shop`, declared and not released; returns its directory of settings."""
    directory = root / "etc/bedstone/apps/shop"
    directory.mkdir(parents=True)
    (directory / "app.json").write_text(json.dumps(APP))
    (directory / "app.env").write_text(
        "SECRET_KEY=very-secret-key\nDATABASE_URL=postgres://shop:p%40ssword1@db/shop\nMODE=live\n"
    )
    (directory / "migrate.env").write_text("DATABASE_URL=postgres://migrate:password2@db/shop\n")
    return directory


class Web(http.server.ThreadingHTTPServer):
    """A web server that keeps what was posted and gives the test's answers."""

    daemon_threads = True
    # Its threads may hang on purpose: no test waits for them.
    block_on_close = False

    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> None:
        self.posted: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), _handler(answer))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/T000/secret-path"

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that are cut off are what is tested."""


def _handler(
    answer: Callable[[http.server.BaseHTTPRequestHandler], None],
) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            assert isinstance(self.server, Web)
            self.server.posted.append((self.path, dict(self.headers), json.loads(text)))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


Serve = Callable[[Callable[[http.server.BaseHTTPRequestHandler], None]], Web]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start web servers; all of them end with the test."""
    servers: list[Web] = []

    def start(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Web:
        server = Web(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost that no client trusts by default, and a server's side of it."""
    texts = dict(zip(("cert", "key"), self_signed("localhost"), strict=True))
    for name, text in texts.items():
        (tmp_path / f"{name}.pem").write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return tmp_path / "cert.pem", context


class Smtp(socketserver.ThreadingTCPServer):
    """A mail server of a few lines; `replies` are its answers to the verbs, 250 otherwise."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies
        self.tls: ssl.SSLContext | None = None
        self.lines: list[str] = []
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", 0), _Smtp)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that go away are what is tested."""


class _Smtp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 mail")
        self.talk()

    def talk(self) -> None:
        server = self.server
        assert isinstance(server, Smtp)
        while raw := self.rfile.readline():
            line = raw.decode().rstrip()
            server.lines.append(line)
            verb = line.split(" ")[0].upper()
            if verb == "STARTTLS" and server.tls is not None:
                self.say("220 go on")
                with (
                    suppress(ssl.SSLError),  # the client doesn't trust us
                    server.tls.wrap_socket(self.request, server_side=True) as self.request,
                ):
                    self.setup()
                    self.talk()
                return
            if verb == "DATA":
                self.say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                server.mails.append(text.decode())
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say(server.replies.get(verb, "250 ok"))

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


@pytest.fixture
def smtp() -> Iterator[Callable[..., Smtp]]:
    """Start mail servers."""
    servers: list[Smtp] = []

    def start(**replies: str) -> Smtp:
        server = Smtp(replies)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hooks_file(root: Path) -> Callable[..., Path]:
    """Write the file of hooks."""
    path = root / "etc/bedstone/hooks.json"

    def write(*hooks: dict[str, Any], mail: dict[str, Any] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [{"events": ["failure"], "apps": None, "timeout_seconds": 10} | h for h in hooks]
        path.write_text(json.dumps({"schema": 1, "hooks": entries, "mail": mail}))
        return path

    return write
