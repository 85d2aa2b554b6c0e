"""Asking a service, straight and through the front door."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bedstone.core.errors import BedstoneError
from bedstone.system import http_check


class App(HTTPServer):
    """Answers with `status`, and keeps the headers it was sent."""

    status = 200
    location = "https://elsewhere/"
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, App)
        self.server.headers = {key.lower(): value for key, value in self.headers.items()}
        self.send_response(self.server.status)
        if self.server.status == 301:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def app() -> Iterator[App]:
    with App(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_asks_as_nginx_would(app: App) -> None:
    answer = http_check.service("127.0.0.1", app.server_port, "/health/", "shop.example.com")
    assert answer == http_check.Answer(ok=True, said="GET /health/ answered 200", status=200)
    assert app.headers["host"] == "shop.example.com"
    assert app.headers["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_only_2xx_is_healthy(app: App, status: int) -> None:
    app.status = status
    answer = http_check.service("127.0.0.1", app.server_port, "/", "x")
    assert not answer.ok
    assert f"answered {status}" in answer.said


def test_redirect_says_where_to(app: App) -> None:
    app.status = 301
    said = http_check.service("127.0.0.1", app.server_port, "/", "x").said
    assert said.startswith("GET / answered 301 to https://elsewhere/; a redirect doesn't count")


def test_declared_status_is_healthy(app: App) -> None:
    app.status = 301
    answer = http_check.service("127.0.0.1", app.server_port, "/", "x", accepted=(301,))
    assert answer == http_check.Answer(True, "GET / answered 301 to https://elsewhere/", 301)


def test_nobody_there_is_no_answer(app: App) -> None:
    port = app.server_port
    assert http_check.port("127.0.0.1", port).ok
    app.shutdown()
    app.server_close()
    answer = http_check.service("127.0.0.1", port, "/", "x")
    assert not answer.ok
    assert "got no answer: " in answer.said
    assert "Connection refused" in http_check.port("127.0.0.1", port).said
    with pytest.raises(BedstoneError, match="no answer"):
        http_check.require(answer)


@pytest.fixture
def front_door(app: App, root: Path) -> App:
    """The app with a certificate for shop.example.com, in nginx's place."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example.com")])
    now = dt.datetime.now(dt.UTC)
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example.com")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (root / "both.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (root / "etc/bedstone/tls").mkdir(parents=True)
    (root / "etc/bedstone/tls/ca.crt").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "both.pem")
    app.socket = context.wrap_socket(app.socket, server_side=True)
    return app


def test_front_door_is_asked_by_the_apps_domain(front_door: App) -> None:
    answer = http_check.front_door("shop.example.com", "/health/", front_door.server_port)
    said = "https://shop.example.com/health/ answered 200"
    assert answer == http_check.Answer(ok=True, said=said, status=200)
    assert front_door.headers["host"] == f"shop.example.com:{front_door.server_port}"


@pytest.mark.parametrize(
    ("status", "ok"), [(404, True), (301, True), (401, True), (400, False), (500, False)]
)
def test_front_door_must_not_answer_400_or_5xx(front_door: App, status: int, ok: bool) -> None:  # noqa: FBT001
    front_door.status = status
    answer = http_check.front_door("shop.example.com", "/", front_door.server_port)
    assert (answer.ok, answer.status) == (ok, status)


@pytest.mark.parametrize("location", ["/", "https://shop.example.com:{port}/"])
def test_front_door_must_not_redirect_to_itself(front_door: App, location: str) -> None:
    front_door.status = 301
    front_door.location = location.format(port=front_door.server_port)
    answer = http_check.front_door("shop.example.com", "/", front_door.server_port)
    assert not answer.ok
    assert answer.said == "https://shop.example.com/ answered 301 to itself"


def test_untrusted_certificate_is_said_but_does_not_count(front_door: App) -> None:
    answer = http_check.front_door("other.example.com", "/", front_door.server_port)
    assert answer.ok
    assert "isn't trusted here" in answer.said
    assert front_door.headers


def test_closed_front_door_is_no_answer(root: Path, app: App) -> None:
    del root
    answer = http_check.front_door("shop.example.com", "/", app.server_port)
    assert not answer.ok
    assert "got no answer" in answer.said
