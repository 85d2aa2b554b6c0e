"""Steady requests of every kind over TLS through nginx, until stopped; runs on the server.

    python3 client.py DIRECTORY NAME SECONDS CONNECTIONS

writes DIRECTORY/started, then DIRECTORY/result.json when DIRECTORY/stop appears and every request
has ended. NAME begins the ids of the rows that it asks for; SECONDS is how long a slow request
takes, and a download. These requests have a connection each. CONNECTIONS more are kept alive, and
rows are posted on them in turn without looking whether nginx has closed them, as many programs do.
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
POSTERS = 4
# Of each poster: fifty connections, a post on each every 25 seconds.
POST_PACE_SECONDS = 0.5
# nginx may close what rests for its keepalive_timeout of 65 s; a busy machine can take that long
# for one turn, and that is not what a release is judged by.
REST_SECONDS = 50
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
        self._keep(kind, number, began, problem, version, container)

    def _keep(
        self,
        kind: str,
        number: int,
        began: float,
        problem: str | None,
        version: str | None,
        container: str | None,
    ) -> None:
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

    def post_on_kept_connections(self, poster: int, count: int, stop: Path) -> None:
        """Open connections, then post on them in turn until stopped."""
        connections: list[http.client.HTTPSConnection] = []
        used: dict[int, float] = {}
        turn = 0
        while not stop.exists():
            if len(connections) < count:
                connections.append(self._connect())
            place = turn % len(connections)
            connection = connections[place]
            if time.monotonic() - used.get(place, time.monotonic()) > REST_SECONDS:
                connection.close()
            # All are opened soon; then each rests for seconds between two posts.
            opening = len(connections) < count
            turn += 1
            identity = f"{self.name}-kept-{poster}-{turn}"
            began = time.time()
            try:
                if connection.sock is None:
                    # nginx has said that it closes, or it rested for too long.
                    connection.sock = self._connect().sock
                problem, version, container = self._post(connection, identity, {})
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem, version, container = f"{type(error).__name__}: {error}", None, None
                connection.close()
            used[place] = time.monotonic()
            self._keep("kept", turn, began, problem, version, container)
            time.sleep(0.01 if opening else POST_PACE_SECONDS)
        for connection in connections:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(DOMAIN, timeout=LIMIT_SECONDS)
        plain = socket.create_connection(("127.0.0.1", 443), timeout=LIMIT_SECONDS)
        connection.sock = self.context.wrap_socket(plain, server_hostname=DOMAIN)
        return connection

    def _exchange(self, kind: str, number: int) -> tuple[str | None, str | None, str | None]:
        connection = self._connect()
        try:
            if kind == "post":
                return self._post(connection, f"{self.name}-{number}", {"Connection": "close"})
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
        self, connection: http.client.HTTPSConnection, identity: str, headers: dict[str, str]
    ) -> tuple[str | None, str | None, str | None]:
        connection.request("POST", "/entries/", identity.encode(), headers)
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


def main(directory: Path, name: str, seconds: int, kept: int) -> None:
    """Keep the pace until stopped, then wait for the last answers."""
    client = Client(name, seconds)
    arguments = [(number, kept // POSTERS, directory / "stop") for number in range(POSTERS)]
    threads = [
        threading.Thread(target=client.post_on_kept_connections, args=each)
        for each in arguments
        if kept
    ]
    for thread in threads:
        thread.start()
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
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
