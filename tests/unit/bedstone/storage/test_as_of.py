"""A versioned bucket as restic sees it at an earlier moment."""

from __future__ import annotations

import http.client
import io
import json
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bedstone.core.errors import RefusedError
from bedstone.storage import as_of, s3
from bedstone.storage.destinations import LOCAL, Destination
from bedstone.storage.s3 import Protection, S3Error, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

THEN = datetime(2026, 11, 20, 3, tzinfo=UTC)
ID = "ab" + "0" * 62
CONTENTS = {
    ("1", "web1/restic/config"): b"config",
    ("2", f"web1/restic/data/ab/{ID}"): b"0123456789",
}


def version(key: str, name: str, seconds: int, *, deleted: bool = False) -> Version:
    return Version(f"web1/restic/{key}", name, THEN + timedelta(seconds=seconds), 10, deleted)


# As a bucket lists them: of a key, the newest first.
VERSIONS = [
    version("config", "8", 60, deleted=True),
    version("config", "7", 59),
    version("config", "1", -60),
    version(f"data/ab/{ID}", "9", 60),
    version(f"data/ab/{ID}", "2", 0),
    version("snapshots/gone", "4", -10, deleted=True),
    version("snapshots/gone", "3", -20),
    version("index/later", "5", 1),
]


class Bucket:
    """A bucket with these versions."""

    protected = Protection(versioned=True)
    ranges: ClassVar[list[str | None]] = []

    def __init__(self, *_: Any) -> None:
        pass

    def protection(self) -> Protection:
        return self.protected

    def versions(self, prefix: str) -> list[Version]:
        return [found for found in VERSIONS if found.key.startswith(prefix)]

    def open(self, key: str, name: str, bytes_range: str | None) -> Any:
        self.ranges.append(bytes_range)
        if (name, key) not in CONTENTS:
            raise S3Error("the bucket is out of order", 500)
        return Answer(CONTENTS[name, key])


class Answer(io.BytesIO):
    """A bucket's answer."""

    status = 200

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Length": str(len(self.getvalue())), "ETag": "x"}


class Unix(http.client.HTTPConnection):
    """HTTP on a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bucket]]:
    monkeypatch.setattr(s3, "Bucket", Bucket)
    monkeypatch.setattr(s3, "read_keys", lambda _path: None)
    monkeypatch.setattr(Bucket, "ranges", [])
    as_of._contents.cache_clear()
    yield Bucket
    as_of._contents.cache_clear()


def place(moment: datetime = THEN) -> Destination:
    return Destination(
        "vault", "s3", endpoint="s3.example", bucket="b", path="/web1", immutable=True
    ).at(moment)


def ask(
    location: str, method: str, target: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    assert location.startswith("rest:http+unix://")
    connection = Unix(location.removeprefix("rest:http+unix://").removesuffix(":/"))
    connection.request(method, target, headers=headers or {})
    with connection.getresponse() as answer:
        found = answer.status, answer.read()
    connection.close()
    return found


def test_what_was_then_is_newest_and_not_deleted() -> None:
    found = as_of.newest(VERSIONS, THEN)
    assert {key.removeprefix("web1/restic/"): entry.id for key, entry in found.items()} == {
        "config": "1",
        f"data/ab/{ID}": "2",
    }
    later = as_of.newest(VERSIONS, THEN + timedelta(minutes=1))
    assert {entry.id for entry in later.values()} == {"9", "5"}


def test_restic_reads_what_was_then() -> None:
    with as_of.served(place()) as location:
        assert ask(location, "GET", "/config") == (200, b"config")
        status, listed = ask(location, "GET", "/data/")
        assert (status, json.loads(listed)) == (200, [{"name": ID, "size": 10}])
        assert ask(location, "HEAD", f"/data/{ID}")[0] == 200
        assert ask(location, "GET", f"/data/{ID}", {"Range": "bytes=2-3"})[0] == 200
        assert ask(location, "GET", "/snapshots/gone")[0] == 404
        assert ask(location, "GET", "/index/later")[0] == 404
        assert ask(location, "GET", "/snapshots/") == (200, b"[]")
    assert Bucket.ranges == [None, "bytes=2-3"]


def test_nothing_can_be_written_or_deleted() -> None:
    with as_of.served(place()) as location:
        for method in ("POST", "PUT", "DELETE"):
            assert ask(location, method, f"/data/{ID}")[0] == 501


def test_bucket_that_fails_is_said() -> None:
    with as_of.served(place(THEN + timedelta(minutes=1) - timedelta(seconds=1))) as location:
        assert ask(location, "GET", "/config") == (502, b"the bucket is out of order")


def test_bucket_without_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "protected", Protection(versioned=False))
    with pytest.raises(RefusedError, match="keeps no versions"), as_of.served(place()):
        pass


def test_moment_before_the_repository_is_refused() -> None:
    early = THEN - timedelta(days=1)
    with pytest.raises(RefusedError, match="no repository at vault"), as_of.served(place(early)):
        pass


def test_only_a_bucket_is_read_as_it_was() -> None:
    for kind in (LOCAL, "sftp"):
        with pytest.raises(RefusedError, match="as it is now"):
            Destination("x", kind, host="h", user="u", path="/p").at(THEN)
    assert place().words() == "s3 s3.example/b/web1 as of 2026-11-20 03:00:00 UTC"
    assert place().at(None) == place()
