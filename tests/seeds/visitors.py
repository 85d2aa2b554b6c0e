"""Visitors of a seed system, who go on while something happens to its server."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_SECONDS = 30.0
PACE_SECONDS = 0.4
# nginx closes a connection on which no request comes for its client_header_timeout of 10 s, and a
# busy machine can stop this program for that long.
SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class Visit:
    """A request that is repeated.

    Attributes:
        path: of the URL; an item of its own in what is counted.
        status: that of a good answer.
        body: JSON to send, then it is a POST.

    """

    path: str
    status: int = 200
    body: dict[str, str] | None = None


@dataclass
class Seen:
    """What came of the requests.

    Attributes:
        good: answers as they should be, by path.
        failures: what was wrong with the others.
        bodies: the answers to requests with a body.

    """

    good: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)


def ask(
    domain: str, address: str, authority: Path, visit: Visit, accept: str = ""
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send one request over verified TLS, and return the answer with its body."""
    context = ssl.create_default_context(cafile=str(authority))
    connection = http.client.HTTPSConnection(domain, timeout=LIMIT_SECONDS)
    while connection.sock is None:
        began = time.monotonic()
        plain = socket.create_connection((address, 443), LIMIT_SECONDS)
        connection.sock = context.wrap_socket(plain, server_hostname=domain)
        if time.monotonic() - began > SILENT_SECONDS:
            connection.close()
    headers = {"Connection": "close", **({"Accept-Encoding": accept} if accept else {})}
    try:
        if visit.body is None:
            connection.request("GET", visit.path, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            connection.request("POST", visit.path, json.dumps(visit.body), headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@contextmanager
def visitors(domain: str, address: str, authority: Path, *visits: Visit) -> Iterator[Seen]:
    """Repeat requests, one visitor for each, until the block ends."""
    seen, ended = Seen(), threading.Event()

    def go_on(visit: Visit) -> None:
        while not ended.wait(PACE_SECONDS):
            try:
                answer, body = ask(domain, address, authority, visit)
            except (OSError, http.client.HTTPException) as error:
                seen.failures.append(f"{visit.path}: {type(error).__name__}: {error}")
                continue
            if answer.status != visit.status:
                seen.failures.append(f"{visit.path}: {answer.status} {body[:200]!r}")
                continue
            seen.good[visit.path] += 1
            if visit.body is not None:
                seen.bodies.append(json.loads(body))

    threads = [threading.Thread(target=go_on, args=(visit,)) for visit in visits]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()
