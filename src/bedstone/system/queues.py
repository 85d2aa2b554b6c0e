"""Ask Redis and RabbitMQ how many messages wait in a queue."""

from __future__ import annotations

import http.client
import re
from shutil import which
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from bedstone.core.errors import BedstoneError
from bedstone.core.process import Runner, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SECONDS = 5.0
_CLIENTS = ("valkey-cli", "redis-cli")
_READY = "rabbitmq_detailed_queue_messages_ready"
_SAMPLE = re.compile(rf"^{_READY}\{{(.*)\}} (\d+(?:\.\d+)?(?:e[+-]?\d+)?)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_OK = 200


def redis_length(socket: str, user: str, password: str, queue: str, runner: Runner = run) -> int:
    """Return the length of a list in database 0 of an instance of Redis.

    Args:
        socket: the instance's socket.
        user: reads the length of this list.
        password: that user's.
        queue: the list.
        runner: runs programs.

    Raises:
        BedstoneError: the instance doesn't answer, or refuses.

    """
    command = ["-s", socket, "--user", user, "--no-auth-warning", "--raw", "LLEN", queue]
    environment = {"REDISCLI_AUTH": password}
    # Both speak to either server.
    client = next((name for name in _CLIENTS if which(name)), _CLIENTS[0])
    said = runner([client, *command], env=environment, timeout=_SECONDS).stdout.strip()
    if not said.isdecimal():
        # Errors are the answer's text, with code 0.
        raise BedstoneError(f"Redis at {socket} gave no length of {queue}: {said[:200]}.")
    return int(said)


def rabbitmq_lengths(port: int, vhosts: Iterable[str]) -> Mapping[tuple[str, str], int]:
    """Return how many messages are ready in each queue, by virtual host and name.

    Args:
        port: of the broker's plugin for Prometheus on this host.
        vhosts: the virtual hosts to ask for.

    Raises:
        BedstoneError: the broker doesn't answer.

    """
    query = [("family", "queue_coarse_metrics"), *(("vhost", name) for name in sorted(set(vhosts)))]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", f"/metrics/detailed?{urlencode(query)}")
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise BedstoneError(f"RabbitMQ's metrics on port {port} don't answer: {error}.") from error
    finally:
        connection.close()
    if answer.status != _OK:
        raise BedstoneError(f"RabbitMQ's metrics on port {port} answer {answer.status}.")
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        if sample := _SAMPLE.match(line):
            labels = dict(_LABEL.findall(sample[1]))
            key = labels.get("vhost", ""), labels.get("queue", "")
            found[key] = found.get(key, 0) + int(float(sample[2]))
    return found
