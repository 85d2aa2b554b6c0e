"""Requests at a steady pace, and how long each took; runs on the server.

    python3 latency.py DIRECTORY

writes DIRECTORY/started, then DIRECTORY/result.json when DIRECTORY/stop appears. A request's time
counts from the moment at which it was due: one that waits behind a slow one is slow, too.
"""

import http.client
import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

DOMAIN = "ledger.localhost"
CONNECTIONS = 4
PACE_SECONDS = 0.04
LIMIT_SECONDS = 30


class Connection(threading.Thread):
    """Reads and writes a row in turns, over a connection that is kept."""

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__()
        self.directory = directory
        self.number = number
        self.milliseconds: list[float] = []
        self.failures: list[str] = []
        self._connection: http.client.HTTPSConnection | None = None

    def run(self) -> None:
        """Keep the pace until stopped."""
        due = time.monotonic() + self.number * PACE_SECONDS / CONNECTIONS
        count = 0
        while not (self.directory / "stop").exists():
            time.sleep(max(due - time.monotonic(), 0))
            try:
                self._ask(count)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                self._connection = None
            else:
                self.milliseconds.append((time.monotonic() - due) * 1000)
            due += PACE_SECONDS
            count += 1

    def _ask(self, count: int) -> None:
        connection = self._connection or connect()
        self._connection = connection
        if count % 2:
            name = f"bench-{self.directory.name}-{self.number}-{count}"
            connection.request("POST", "/entries/", name.encode())
        else:
            connection.request("GET", "/look")
        response = connection.getresponse()
        response.read()
        if response.will_close:
            # By itself, http.client would look its name up, which no resolver knows.
            self._connection = None
        if response.status not in {200, 201}:
            raise http.client.HTTPException(f"answered {response.status}")


def connect() -> http.client.HTTPSConnection:
    """Return a connection to nginx on this server."""
    context = ssl.create_default_context(cafile="/etc/bedstone/tls/ca.crt")
    connection = http.client.HTTPSConnection(DOMAIN, timeout=LIMIT_SECONDS)
    plain = socket.create_connection(("127.0.0.1", 443), timeout=LIMIT_SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sock = context.wrap_socket(plain, server_hostname=DOMAIN)
    return connection


def main(directory: Path) -> None:
    """Send requests until stopped, and record the results."""
    threads = [Connection(directory, number) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    (directory / "started").touch()
    for thread in threads:
        thread.join()
    result = {
        "milliseconds": [time for thread in threads for time in thread.milliseconds],
        "failures": [words for thread in threads for words in thread.failures],
    }
    draft = directory / "result.draft"
    draft.write_text(json.dumps(result), encoding="utf-8")
    draft.rename(directory / "result.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
