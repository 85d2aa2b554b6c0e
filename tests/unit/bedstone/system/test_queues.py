"""The lengths of queues: what Redis and RabbitMQ answer, and when they don't."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.core.process import Completed
from bedstone.system import queues

TEXT = """\
# TYPE rabbitmq_detailed_queue_messages_ready gauge
rabbitmq_detailed_queue_messages_ready{vhost="/shop",queue="celery"} 3
rabbitmq_detailed_queue_messages_ready{vhost="/shop",queue="a \\"b\\" c"} 1e+03
rabbitmq_detailed_queue_messages_ready{vhost="other",queue="celery"} 9
rabbitmq_detailed_queue_messages{vhost="/shop",queue="celery"} 5
"""


class Broker(BaseHTTPRequestHandler):
    asked: str = ""
    status = 200

    def do_GET(self) -> None:
        Broker.asked = self.path
        self.send_response(Broker.status)
        self.end_headers()
        self.wfile.write(TEXT.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Broker)
    Broker.status = 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_lengths_are_those_of_ready_messages(port: int) -> None:
    found = queues.rabbitmq_lengths(port, ["/shop", "other", "/shop"])
    assert found["/shop", "celery"] == 3
    assert found["other", "celery"] == 9
    assert Broker.asked == (
        "/metrics/detailed?family=queue_coarse_metrics&vhost=%2Fshop&vhost=other"
    )


def test_broker_that_fails_is_an_error(port: int) -> None:
    Broker.status = 503
    with pytest.raises(BedstoneError, match="503"):
        queues.rabbitmq_lengths(port, ["/shop"])


def test_broker_that_is_down_is_an_error() -> None:
    with pytest.raises(BedstoneError, match="port 1 don't answer"):
        queues.rabbitmq_lengths(1, ["/shop"])


def redis(said: str) -> tuple[list[Any], Any]:
    calls: list[Any] = []

    def run(argv: Any, **options: Any) -> Completed:
        calls.append((argv, options))
        return Completed(tuple(argv), 0, said, "", 0.0)

    return calls, run


def test_password_is_in_no_command_line() -> None:
    calls, run = redis("3\n")
    assert queues.redis_length("/run/x.sock", "metrics", "s3cret", "celery", run) == 3
    ((argv, options),) = calls
    assert "s3cret" not in " ".join(argv)
    assert options["env"] == {"REDISCLI_AUTH": "s3cret"}
    assert options["timeout"] <= 5


@pytest.mark.parametrize("said", ["", "WRONGTYPE Operation against a key", "NOPERM no rights"])
def test_answer_that_is_no_number_is_an_error(said: str) -> None:
    _, run = redis(said)
    with pytest.raises(BedstoneError, match="no length of celery"):
        queues.redis_length("/run/x.sock", "metrics", "s3cret", "celery", run)
