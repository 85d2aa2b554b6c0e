"""The app as it runs in production: gunicorn with its settings, over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from django.conf import global_settings

from tests.conftest import APP, make_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from django.conf import LazySettings
    from django.contrib.auth.models import User

from payments.groups import APPROVERS, REQUESTERS
from payments.models import AuditEntry

START_LIMIT_SECONDS = 20


class Server:
    """A running gunicorn; its log goes to a file."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        media = folder / "media"
        media.mkdir(exist_ok=True)
        self.log = folder / "log"
        self.env = env | {"PORT": str(self.port), "MEDIA_ROOT": str(media)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn"],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=APP,
                env=self.env,
            )
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while True:
            try:
                assert self.get("/health/live")[0] == 200
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)  # between two looks, with the limit above
            else:
                return

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        return self.ask("GET", path, None, headers)

    def ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Host": "localhost"} | names)
            answer = connection.getresponse()
            sent = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, sent, answer.read().decode()
        finally:
            connection.close()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait_for_line(self, message: str) -> None:
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while message not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)  # between two looks, with the limit above

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


class Person:
    """A browser, as far as cookies and CSRF tokens go."""

    def __init__(self, server: Server, user: User) -> None:
        self.server = server
        self.cookies: SimpleCookie = SimpleCookie()
        self.get("/login/")
        form = {"username": user.username, "password": f"{user.username}'s password"}
        assert self.post("/login/", form)[0] == 302

    def get(self, path: str) -> tuple[int, str]:
        return self._ask("GET", path, None)

    def post(self, path: str, form: dict[str, str]) -> tuple[int, str]:
        token = self.cookies["csrftoken"].value
        return self._ask("POST", path, urlencode(form | {"csrfmiddlewaretoken": token}))

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        headers["Cookie"] = "; ".join(f"{key}={item.value}" for key, item in self.cookies.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, body, {"Host": "localhost"} | headers)
            answer = connection.getresponse()
            for cookie in answer.headers.get_all("Set-Cookie", []):
                self.cookies.load(cookie)
            return answer.status, answer.headers.get("Location", answer.read().decode())
        finally:
            connection.close()


@pytest.fixture
def serve(
    own_database: str, environment: dict[str, str], tmp_path: Path, static_files: None
) -> Iterator[Callable[..., Server]]:
    """Start gunicorn on a database of the test's own, as the app's role."""
    started: list[Server] = []

    def _serve(**changes: str) -> Server:
        # DEBUG: static files without a manifest, as collectstatic hasn't run in the source.
        env = environment | {"POSTGRES_DB": own_database, "DEBUG": "true"}
        env |= {"WEB_CONCURRENCY": "2", "GUNICORN_GRACEFUL_TIMEOUT": "5"} | changes
        started.append(Server(env, tmp_path))
        return started[-1]

    yield _serve
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def test_check_config_accepts_the_settings(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    done = run("-m", "gunicorn", "--check-config", env=environment)
    assert done.returncode == 0, done.stderr


def test_a_payment_goes_from_request_to_paid_over_http(
    serve: Callable[..., Server], settings: LazySettings
) -> None:
    settings.PASSWORD_HASHERS = global_settings.PASSWORD_HASHERS  # those of the server
    users = [make_user("rosa", REQUESTERS), make_user("arthur", APPROVERS)]
    server = serve()
    rosa, arthur = (Person(server, user) for user in users)
    terms = {"payee": "Hilltop", "purpose": "Paper", "amount": "184.20", "currency": "EUR"}
    rosa.get("/requests/new/")
    status, page = rosa.post("/requests/new/", terms)
    assert status == 302
    arthur.get(page)
    assert arthur.post(f"{page}approve/", {"note": ""}) == (302, page)
    assert arthur.post(f"{page}paid/", {"note": "2026-7"}) == (302, page)
    assert "2026-7" in arthur.get(page)[1]
    assert list(AuditEntry.objects.values_list("actor__username", "status_after")) == [
        ("rosa", "requested"),
        ("arthur", "approved"),
        ("arthur", "paid"),
    ]


def test_every_log_line_is_json_and_a_requests_lines_share_its_id(
    serve: Callable[..., Server],
) -> None:
    server = serve()
    server.get("/nowhere", X_Request_ID="0123456789abcdef")
    server.get("/health/ready")
    server.stop()
    lines = server.lines()
    own = [line for line in lines if line["request_id"] == "0123456789abcdef"]
    assert {line["logger"] for line in own} == {"django.request", "gunicorn.access"}
    (access,) = [line for line in own if line["logger"] == "gunicorn.access"]
    assert (access["method"], access["path"], access["status"]) == ("GET", "/nowhere", 404)
    assert access["duration_ms"] >= 0
    assert any(line["logger"] == "gunicorn.error" for line in lines)
    health = [line for line in lines if line.get("path", "").startswith("/health")]
    assert health == [], "successful health checks would bury the rest"
    for line in lines:
        assert {"timestamp", "level", "logger", "message", "module", "function", "line"} <= {*line}


def test_a_trusted_proxy_says_what_is_https(serve: Callable[..., Server]) -> None:
    trusting = serve(SECURE_SSL_REDIRECT="true", FORWARDED_ALLOW_IPS="127.0.0.0/8")
    assert trusting.get("/login/", X_Forwarded_Proto="https")[0] == 200
    status, headers, _ = trusting.get("/login/", X_Forwarded_Proto="http")
    assert (status, headers["location"]) == (301, "https://localhost/login/")
    assert trusting.get("/health/live")[0] == 200
    trusting.stop()
    wary = serve(SECURE_SSL_REDIRECT="true", FORWARDED_ALLOW_IPS="10.9.8.7")
    assert wary.get("/login/", X_Forwarded_Proto="https")[0] == 301


def test_it_stops_gracefully_with_a_request_in_flight(serve: Callable[..., Server]) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n")
        # With this cookie Django looks for the form's token, and so waits for the body.
        slow.sendall(b"Cookie: csrftoken=" + b"x" * 32 + b"\r\n")
        slow.sendall(b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 100"), "a worker has taken the request"
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("Handling signal: term")
        slow.sendall(b"x")
        assert slow.makefile("rb").readline().startswith(b"HTTP/1.1 403")
    assert server.process.wait(timeout=30) == 0


def test_the_images_health_check_asks_the_running_app(serve: Callable[..., Server]) -> None:
    server = serve()
    command = [sys.executable, str(APP / "healthcheck.py")]
    assert subprocess.run(command, env=server.env, check=False).returncode == 0
    server.stop()
    assert subprocess.run(command, env=server.env, check=False).returncode == 1


def test_it_starts_without_a_database_and_says_that_it_is_not_ready(
    serve: Callable[..., Server],
) -> None:
    server = serve(POSTGRES_PORT="1")
    status, _, body = server.get("/health/ready")
    assert status == 503
    assert json.loads(body)["checks"]["database"] == "unhealthy"
    assert server.get("/health/live")[0] == 200


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_workers_follow_the_containers_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], most: int | None
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    usable_cores = runpy.run_path(str(APP / "gunicorn.conf.py"))["usable_cores"]
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert usable_cores(tmp_path) == (most or 4)


def test_the_dockerfile_keeps_to_its_promises() -> None:
    """What a reader of the image relies on, and a careless edit would lose."""
    text = (APP / "Dockerfile").read_text()
    assert "--require-hashes" in text
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    requirements = (APP / "requirements.txt").read_text()
    pinned = re.findall(r"^[a-z][a-z0-9-]+==", requirements, re.MULTILINE)
    assert len(pinned) > 10
    assert "gcc" not in text
    assert "http" not in requirements
