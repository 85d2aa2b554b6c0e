"""Let restic read a repository in a versioned bucket as it was at a moment.

restic knows no versions, and Debian's rclone 1.60 finds no single object by `--s3-version-at`. But
restic speaks a small HTTP protocol of its own (its REST server's): this answers it on a socket that
only root can reach, out of the versions that were the newest ones then. It only reads.
"""

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.storage import s3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from bedstone.storage.destinations import Destination
    from bedstone.storage.s3 import Bucket, Version

CONFIG = "config"
_POLL_SECONDS = 0.05
_LIST = "application/vnd.x.restic.rest.v2"
_FORWARDED = ("Content-Length", "Content-Range")


def newest(versions: Iterable[Version], moment: datetime) -> dict[str, Version]:
    """Return by key the version that was the newest one at a moment; deleted objects are left out.

    Args:
        versions: in the order of the bucket, of the same second the newest first.
        moment: as pgBackRest has it, what was written in the same second counts.

    """
    found: dict[str, Version] = {}
    for version in versions:
        known = found.get(version.key)
        if version.modified <= moment and (known is None or version.modified > known.modified):
            found[version.key] = version
    return {key: version for key, version in found.items() if not version.deleted}


@contextmanager
def served(destination: Destination) -> Iterator[str]:
    """Serve the repository as it was at ``destination.as_of``, and yield how restic calls it.

    Raises:
        RefusedError: the bucket isn't versioned, or there was no repository.
        S3Error: it can't be read.

    """
    bucket = s3.Bucket(destination, s3.read_keys(destination.secrets / s3.FILE))
    contents = _contents(destination)
    place = Path(tempfile.mkdtemp(prefix="bedstone-as-of-"))
    try:
        address = place / "socket"
        with _Server(str(address), bucket, contents) as server:
            thread = threading.Thread(
                target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True
            )
            thread.start()
            try:
                yield f"rest:http+unix://{address}:/"
            finally:
                server.shutdown()
    finally:
        shutil.rmtree(place, ignore_errors=True)


# A repository's list is long, and a rebuild calls restic many times. What was doesn't change.
@cache
def _contents(destination: Destination) -> Mapping[tuple[str, str], Version]:
    """Return the repository's files by kind and name."""
    assert destination.as_of is not None
    bucket = s3.Bucket(destination, s3.read_keys(destination.secrets / s3.FILE))
    if not bucket.protection().versioned:
        raise RefusedError(
            f"The bucket of {destination.name} keeps no versions: it can't be read as it was.",
            hint="docs/backups-immutable.md says how a bucket is to be made.",
        )
    prefix = f"{destination.path.strip('/')}/restic/".lstrip("/")
    found = newest(bucket.versions(prefix), destination.as_of)
    if f"{prefix}{CONFIG}" not in found:
        raise RefusedError(
            f"There was no repository at {destination.name} ({destination.words()}) at"
            f" {destination.as_of:%Y-%m-%d %H:%M:%S} UTC.",
            hint="Take a later moment, or another destination.",
        )
    files = {}
    for key, version in found.items():
        kind, _, rest = key.removeprefix(prefix).partition("/")
        # Data lies in directories of two digits, which the protocol doesn't know.
        files[kind, rest.rpartition("/")[2]] = version
    return files


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: str, bucket: Bucket, contents: Mapping[tuple[str, str], Version]
    ) -> None:
        self.bucket = bucket
        self.contents = contents
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a restic that was killed; what it misses, it says itself."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        kind, _, name = urlsplit(self.path).path.strip("/").partition("/")
        if name or kind == CONFIG:
            version = self.server.contents.get((kind, name))
            if version is None:
                self._end(HTTPStatus.NOT_FOUND)
            elif body:
                self._file(version)
            else:
                self._end(HTTPStatus.OK, {"Content-Length": str(version.size)})
            return
        listed = [
            {"name": name, "size": version.size}
            for (found, name), version in self.server.contents.items()
            if found == kind
        ]
        text = json.dumps(listed).encode()
        self._end(HTTPStatus.OK, {"Content-Type": _LIST, "Content-Length": str(len(text))})
        if body:
            self.wfile.write(text)

    def _file(self, version: Version) -> None:
        try:
            answer = self.server.bucket.open(version.key, version.id, self.headers.get("Range"))
        except BedstoneError as error:
            self._end(HTTPStatus.BAD_GATEWAY, text=error.message.encode())
            return
        with answer:
            headers = {name: answer.headers[name] for name in _FORWARDED if name in answer.headers}
            self._end(HTTPStatus(answer.status), headers)
            shutil.copyfileobj(answer, self.wfile)

    def _end(
        self, status: HTTPStatus, headers: Mapping[str, str] | None = None, text: bytes = b""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": str(len(text))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)
