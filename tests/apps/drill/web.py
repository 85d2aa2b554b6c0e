"""The smallest app whose losses can be counted: it takes entries and uploads, and lists them.

An answer to a new entry is its acknowledgement: the row is committed, and `lsn` is a place in the
write-ahead log at which the commit is already written. An upload is on the disk when it is
answered.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA = Path("/app/media")
NAME = re.compile(r"[a-z0-9-]{1,80}")
idle: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()


@contextmanager
def connection() -> Iterator[psycopg.Connection[Any]]:
    """Lend a connection; one that failed isn't lent again."""
    try:
        lent = idle.get_nowait()
    except queue.Empty:
        lent = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=5)
    try:
        yield lent
    except BaseException:
        lent.close()
        raise
    idle.put(lent)


def add(identity: str) -> str:
    """Commit an entry and return where the log is afterwards."""
    with connection() as lent:
        # A kilobyte each, so that the log grows as with an app that does something.
        lent.execute("INSERT INTO entries VALUES (%s, %s)", (identity, os.urandom(512).hex()))
        row = lent.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    return str(row[0]) if row else ""


def entries() -> list[str]:
    """Return the ids of all entries."""
    with connection() as lent:
        return [row[0] for row in lent.execute("SELECT id FROM entries ORDER BY id")]


def keep(name: str, content: bytes) -> str:
    """Keep an upload and return its digest."""
    draft = MEDIA / f".{name}"
    with draft.open("wb") as stream:
        stream.write(content)
        os.fsync(stream.fileno())
    draft.rename(MEDIA / name)
    return hashlib.sha256(content).hexdigest()


def uploads() -> dict[str, str]:
    """Return the digests of all uploads by their names."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in MEDIA.iterdir()
        if not path.name.startswith(".")
    }


class Handler(BaseHTTPRequestHandler):
    """Answers with JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List what there is."""
        match self.path:
            case "/entries/":
                self.answer(200, entries())
            case "/uploads/":
                self.answer(200, uploads())
            case "/health/":
                with connection() as lent:
                    lent.execute("SELECT 1 FROM entries LIMIT 1")
                self.answer(200, "well")
            case _:
                self.answer(404, "no such page")

    def do_PUT(self) -> None:
        """Take an entry or an upload."""
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        _, kind, name = self.path.split("/", 2)
        if not NAME.fullmatch(name):
            self.answer(400, "no such name")
        elif kind == "entries":
            self.answer(201, {"id": name, "lsn": add(name)})
        elif kind == "uploads":
            self.answer(201, {"name": name, "sha256": keep(name, content)})
        else:
            self.answer(404, "no such page")

    def answer(self, status: int, value: Any) -> None:
        """Send a value."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Lets requests in flight finish when it is stopped."""

    daemon_threads = False
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("0.0.0.0", 8000), Handler)

    def end(*_: object) -> None:
        """Stop taking requests."""
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever()
