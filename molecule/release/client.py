"""Steady requests of every kind over TLS through nginx, until told to stop; runs on the server.

    python3 client.py DIRECTORY NAME SECONDS

writes DIRECTORY/started, then DIRECTORY/result.json when DIRECTORY/stop appears and every request
has ended. NAME begins the ids of the rows that it asks for; SECONDS is how long a slow request
takes, and a download. Each request has a connection of its
own, so that none is sent into one that nginx is just closing.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

DOMAIN = "ledger.localhost"
PACE_SECONDS = 0.1
LIMIT_SECONDS = 60
# kind -> every so many paces
PLAN = {"quick": 1, "api": 2, "post": 3, "static": 10, "slow": 15, "stream": 25}
PATHS = {"quick": "/", "api": "/api/", "static": "/static/entries/ledger.css"}


class Client:
    """Sends requests and keeps what came of each."""

    def __init__(self, name: str, seconds: int) -> None:
        self.name = name
        self.paths = {**PATHS, "slow": f"/slow/{seconds}", "stream": f"/stream/{seconds}"}
        self.context = ssl.create_default_context(cafile="/etc/bedstone/tls/ca.crt")
        self.lock = threading.Lock()
        self.answers: list[dict[str, object]] = []
        self.failures: list[str] = []
        self.acknowledged: list[str] = []

    def ask(self, kind: str, number: int) -> None:
        """Send one request, check its answer, and keep it."""
        began = time.time()
        try:
            problem, version, container = self._exchange(kind, number)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem, version, container = f"{type(error).__name__}: {error}", None, None
        with self.lock:
            if problem:
                self.failures.append(
                    f"{kind} {number}, {time.time() - began:.1f} s, at {began:.1f}: {problem}"
                )
            else:
                self.answers.append(
                    {
                        "kind": kind,
                        "began": began,
                        "ended": time.time(),
                        "version": version,
                        "container": container,
                    }
                )

    def _exchange(self, kind: str, number: int) -> tuple[str | None, str | None, str | None]:
        connection = http.client.HTTPSConnection(DOMAIN, timeout=LIMIT_SECONDS)
        plain = socket.create_connection(("127.0.0.1", 443), timeout=LIMIT_SECONDS)
        connection.sock = self.context.wrap_socket(plain, server_hostname=DOMAIN)
        try:
            if kind == "post":
                return self._post(connection, f"{self.name}-{number}")
            connection.request("GET", self.paths[kind], headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
            version, container = named(response)
            if response.status != 200:
                return f"answered {response.status}", version, container
            if len(body) != int(response.headers["Content-Length"]):
                return f"ended after {len(body)} bytes", version, container
            if kind == "static":
                return (None if b"monospace" in body else "another file"), None, None
            if kind == "stream":
                right = hashlib.sha256(body).hexdigest() == response.headers["X-Checksum"]
                return (None if right else "wrong checksum"), version, container
            said = json.loads(body)
            one = (said["version"], said["host"]) == (version, container)
            return (None if one else f"of two releases: {said}"), version, container
        finally:
            connection.close()

    def _post(
        self, connection: http.client.HTTPSConnection, identity: str
    ) -> tuple[str | None, str | None, str | None]:
        connection.request("POST", "/entries/", identity.encode(), {"Connection": "close"})
        response = connection.getresponse()
        body = response.read()
        version, container = named(response)
        if response.status != 201 or json.loads(body)["id"] != identity:
            return f"answered {response.status}: {body[:200]!r}", version, container
        with self.lock:
            self.acknowledged.append(identity)
        return None, version, container


def named(response: http.client.HTTPResponse) -> tuple[str | None, str | None]:
    """Return the version and the container that an answer names."""
    return response.headers["X-Version"], response.headers["X-Container"]


def main(directory: Path, name: str, seconds: int) -> None:
    """Keep the pace until told to stop, then wait for the last answers."""
    client = Client(name, seconds)
    threads: list[threading.Thread] = []
    pace = 0
    (directory / "started").touch()
    while not (directory / "stop").exists():
        for kind, every in PLAN.items():
            if pace % every == 0:
                threads.append(threading.Thread(target=client.ask, args=(kind, pace)))
                threads[-1].start()
        pace += 1
        time.sleep(PACE_SECONDS)
    for thread in threads:
        thread.join()
    result = {
        "answers": client.answers,
        "failures": client.failures,
        "acknowledged": client.acknowledged,
    }
    draft = directory / "result.draft"
    draft.write_text(json.dumps(result), encoding="utf-8")
    draft.rename(directory / "result.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
