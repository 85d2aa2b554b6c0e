"""The requests of a plan, against a real server with a certificate of an authority of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from bedstone_control.load import send
from bedstone_control.load.plan import Plan
from tests.unit.fixtures import issued

DOMAIN = "shop.example.com"
ADDRESSES = ("127.0.0.2", "127.0.0.3")
TRUSTING = send.trusting([issued.CA_PEM])


@dataclass
class Server:
    """What it was asked, and how it answers."""

    port: int = 0
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        name = request.transport.get_extra_info("sockname")[0] if request.transport else ""
        self.asked.append((name, request.method, request.path, (await request.read()).decode()))
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        if request.path == "/slow":
            await asyncio.sleep(0.3)
        if request.path == "/leads-away":
            raise web.HTTPFound("https://elsewhere.example/")
        cookie = {"Set-Cookie": "session=1; Path=/"}
        return web.Response(status=503 if request.path == "/ill" else 200, headers=cookie)


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    server, loop = Server(), asyncio.new_event_loop()
    texts = issued.pair(domains=(DOMAIN,))
    files = [directory / name for name in ("certificate", "key")]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = files
    context.load_cert_chain(certificate, key)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        for address in ADDRESSES:
            site = web.TCPSite(runner, address, server.port, ssl_context=context)
            await site.start()
            server.port = runner.addresses[0][1]
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def server(running: Server) -> Server:
    running.asked.clear()
    running.headers.clear()
    return running


def plan(server: Server, *paths: str, rate: int = 20) -> Plan:
    return Plan("shop", DOMAIN, ADDRESSES, server.port, paths or ("/",), rate, seconds=1)


def test_requests_go_to_the_inventorys_hosts_in_turns(server: Server) -> None:
    samples, seconds = send.send(plan(server, "/a", "/b", "/slow"), TRUSTING)
    assert [one.fault for one in samples] == [None] * 20
    assert [one.path for one in samples][:4] == ["/a", "/b", "/slow", "/a"]
    assert 0.9 < seconds < 3
    assert {address for address, *_ in server.asked} == set(ADDRESSES)
    assert Counter(path for _, _, path, _ in server.asked) == {"/a": 7, "/b": 7, "/slow": 6}
    # Each request is another visitor's.
    assert not any("cookie" in each for each in server.headers)


def test_slow_answers_lower_no_rate_and_count_from_when_they_were_due(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "CONNECTIONS", 1)
    samples, seconds = send.send(plan(server, "/slow", rate=10), TRUSTING)
    times = [one.milliseconds for one in samples]
    assert seconds > 2.9
    assert times[0] < 600
    # They wait for the only connection: 0.3 s each, due after 0.1 s each.
    assert times[-1] > 1900


@pytest.mark.parametrize(
    ("path", "fault"), [("/ill", "status 503"), ("/leads-away", None), ("/", None)]
)
def test_statuses_below_400_are_good_and_no_redirect_is_followed(
    server: Server, path: str, fault: str | None
) -> None:
    samples, _ = send.send(plan(server, path, rate=2), TRUSTING)
    assert [one.fault for one in samples] == [fault] * 2
    assert len(server.asked) == 2


def test_form_and_headers_are_sent(server: Server) -> None:
    given = replace(plan(server, rate=1), data="numbers=1,2", headers={"Authorization": "Bearer x"})
    send.send(given, TRUSTING)
    ((_, method, _, body),) = server.asked
    assert (method, body) == ("POST", "numbers=1,2")
    assert server.headers[0]["authorization"] == "Bearer x"
    assert server.headers[0]["content-type"] == "application/x-www-form-urlencoded"
    assert "Bearer" not in repr(given)


def test_certificate_that_is_not_trusted_is_a_failure(server: Server) -> None:
    samples, _ = send.send(plan(server, rate=1), send.trusting([]))
    assert "certificate verify failed" in str(samples[0].fault)
    other = replace(plan(server, rate=1), domain="other.example.com")
    samples, _ = send.send(other, TRUSTING)
    assert "not valid for 'other.example.com'" in str(samples[0].fault)
    assert server.asked == []


def test_ctrl_c_ends_it_with_what_came_until_then(server: Server) -> None:
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    samples, seconds = send.send(replace(plan(server), seconds=60), TRUSTING)
    assert 5 <= len(samples) == len(server.asked)
    assert [one.fault for one in samples] == [None] * len(samples)
    assert seconds < 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_server_that_does_not_answer_is_a_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = send.send(replace(plan(server, rate=1), port=1), TRUSTING)
    assert "Cannot connect" in str(samples[0].fault)
    monkeypatch.setattr(send, "ANSWER_SECONDS", 0.1)
    samples, _ = send.send(plan(server, "/slow", rate=1), TRUSTING)
    assert samples[0].fault == "no answer in 0.1 s"
