"""Writers: people who use the app until it is gone, and keep note of what it acknowledged."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.drill import judge

ENTRY_PACE_SECONDS = 0.2
UPLOAD_PACE_SECONDS = 2.0
# Also of a machine that is ten times slower than usual.
LIMIT_SECONDS = 60.0
UPLOAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Site:
    """Where the app is: its domain, the address that stands behind it now, its authority."""

    domain: str
    address: str
    authority: Path

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Send a request over verified TLS and return the status and the JSON.

        Raises:
            OSError: it isn't reached, or its certificate isn't right.
            http.client.HTTPException: the answer ended early.
            ValueError: the answer is no JSON.

        """
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.domain, timeout=LIMIT_SECONDS)
        plain = socket.create_connection((self.address, 443), timeout=LIMIT_SECONDS)
        try:
            connection.sock = context.wrap_socket(plain, server_hostname=self.domain)
            headers = {"Connection": "close", "Content-Type": "application/octet-stream"}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if answer.status < 300 else None
        finally:
            connection.close()
            plain.close()


FAILURES = (OSError, http.client.HTTPException, ValueError)


@dataclass
class Writers:
    """What was sent to an app, and what it acknowledged."""

    site: Site
    writes: list[judge.Write] = field(default_factory=list)
    # When each entry was asked for, in seconds since the epoch.
    sent: dict[str, float] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _threads: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, name: str) -> bool:
        """Ask for an entry; return whether it was acknowledged."""
        with self._lock:
            self.sent[name] = time.time()
        try:
            status, said = self.site.ask("PUT", f"/entries/{name}")
        except FAILURES as error:
            self._failed(f"{name}: {type(error).__name__}: {error}")
            return False
        if status != 201:
            self._failed(f"{name}: answered {status}")
            return False
        with self._lock:
            self.writes.append(judge.Write(name, judge.position(said["lsn"]), time.time()))
        return True

    def upload(self, name: str) -> bool:
        """Send a file; return whether it was acknowledged."""
        content = f"{name}\n".encode() * (UPLOAD_BYTES // (len(name) + 1))
        try:
            status, said = self.site.ask("PUT", f"/uploads/{name}", content)
        except FAILURES as error:
            self._failed(f"{name}: {type(error).__name__}: {error}")
            return False
        if status != 201:
            self._failed(f"{name}: answered {status}")
            return False
        with self._lock:
            self.uploads[name] = said["sha256"]
        return True

    def _failed(self, words: str) -> None:
        with self._lock:
            self.failures.append(words)

    def start(self, entering: int) -> None:
        """Let so many people enter, and one upload, until `stop`.

        What fails is not asked for again: no client got an answer that would have to be true.
        """
        wanted = [(self.enter, "entry", ENTRY_PACE_SECONDS)] * entering
        wanted.append((self.upload, "file", UPLOAD_PACE_SECONDS))
        self._threads = [threading.Thread(target=self._keep_on, args=each) for each in wanted]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask for nothing new."""
        self._stop.set()

    def join(self) -> None:
        """Wait until no client waits for an answer any more."""
        for thread in self._threads:
            thread.join()

    def _keep_on(self, ask: Callable[[str], bool], kind: str, pace_seconds: float) -> None:
        while not self._stop.wait(pace_seconds):
            with self._lock:
                number = next(self._numbers)
            ask(f"{kind}-{number:06}")
