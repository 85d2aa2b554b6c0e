"""Requests as Amazon signs them, and answers as buckets give them."""

from __future__ import annotations

import http.client
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.storage import s3
from bedstone.storage.destinations import Destination
from bedstone.storage.s3 import Bucket, Keys, Protection, S3Error

if TYPE_CHECKING:
    from pathlib import Path

# The examples of Amazon's documentation (Signature Version 4, authorization header).
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "examplebucket.s3.amazonaws.com"
MOMENT = datetime(2013, 5, 24, tzinfo=UTC)
PLACE = Destination(
    "vault", "s3", endpoint="s3.example:8443", bucket="backups", region="eu-1", path="/web1"
)
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Connection:
    """An HTTP connection whose answers are given."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self._answers = list(answers)
        self.sent: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.hosts: list[str] = []

    def __call__(self, host: str) -> Any:
        self.hosts.append(host)
        return self

    def request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> None:
        self.sent.append((method, target, body, headers))

    def getresponse(self) -> http.client.HTTPResponse:
        status, text = self._answers.pop(0)
        raw = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
        answer = http.client.HTTPResponse(Socket(raw))  # type: ignore[arg-type]
        answer.begin()
        return answer


class Socket:
    """What an answer is read from."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def bucket(connection: Connection, place: Destination = PLACE) -> Bucket:
    return Bucket(place, KEYS, connect=connection, clock=lambda: MOMENT)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt", "", {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/", "lifecycle=", {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/", "max-keys=2&prefix=J", {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)  # fmt: skip
def test_signature_is_amazons(
    path: str, query: str, headers: dict[str, str], signature: str
) -> None:
    signed = s3.sign(
        "GET", path, query, {**headers, "host": HOST}, b"",
        keys=KEYS, region="us-east-1", moment=MOMENT,
    )  # fmt: skip
    assert signed["authorization"].endswith(f"Signature={signature}")
    assert KEYS.secret_key not in str(signed)


def test_bucket_is_in_the_path_or_in_the_name() -> None:
    connection = Connection((204, ""), (204, ""))
    bucket(connection).delete("web1/a b")
    other = Destination("v", "s3", endpoint="s3.example", bucket="backups", path_style=False)
    bucket(connection, other).delete("web1/a b")
    assert connection.hosts == ["s3.example:8443", "backups.s3.example"]
    assert [target for _, target, *_ in connection.sent] == ["/backups/web1/a%20b", "/web1/a%20b"]


def test_version_is_deleted_by_every_right_of_the_key() -> None:
    connection = Connection((204, ""))
    bucket(connection).delete("web1/x", "v/1")
    ((method, target, _, headers),) = connection.sent
    assert (method, target) == ("DELETE", "/backups/web1/x?versionId=v%2F1")
    assert headers["x-amz-bypass-governance-retention"] == "true"


def test_written_object_has_a_checksum_that_locked_buckets_require() -> None:
    connection = Connection((200, ""))
    bucket(connection).put("web1/x", b"text")
    assert connection.sent[0][3]["content-md5"] == "HLJR7A1WjeapKbUgxK7Y0Q=="


def test_protection_is_what_the_bucket_says() -> None:
    versioned = f"<V {NAMESPACE}><Status>Enabled</Status></V>"
    rule = (
        "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule>"
    )
    locked = f"<L {NAMESPACE}><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</L>"
    missing = "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>"
    found = bucket(Connection((200, versioned), (200, locked))).protection()
    assert found == Protection(versioned=True, mode="COMPLIANCE", days=30)
    found = bucket(Connection((200, f"<V {NAMESPACE}/>"), (404, missing))).protection()
    assert found == Protection(versioned=False)


def test_all_pages_of_versions_are_read() -> None:
    entry = (
        "<{0}><Key>web1/x</Key><VersionId>{1}</VersionId><Size>3</Size>"
        "<LastModified>2026-11-20T03:00:0{1}.000Z</LastModified></{0}>"
    )
    more = (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>web1/x</NextKeyMarker>"
        "<NextVersionIdMarker>2</NextVersionIdMarker>"
    )
    first = f"<R {NAMESPACE}>{more}{entry.format('DeleteMarker', 2)}</R>"
    second = f"<R {NAMESPACE}><IsTruncated>false</IsTruncated>{entry.format('Version', 1)}</R>"
    connection = Connection((200, first), (200, second))
    found = list(bucket(connection).versions("web1/"))
    assert [(version.id, version.deleted, version.size) for version in found] == [
        ("2", True, 3),
        ("1", False, 3),
    ]
    assert found[0].modified == datetime(2026, 11, 20, 3, 0, 2, tzinfo=UTC)
    assert "key-marker=web1%2Fx" in connection.sent[1][1]
    assert "version-id-marker=2" in connection.sent[1][1]


def test_refusal_says_what_the_bucket_said() -> None:
    denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    with pytest.raises(S3Error, match=r"vault \(s3 s3.example.*403 AccessDenied") as caught:
        bucket(Connection((403, denied))).delete("web1/x", "1")
    assert caught.value.is_refusal


def test_what_is_no_s3_is_said(tmp_path: Path) -> None:
    with pytest.raises(S3Error, match="didn't answer as S3 does"):
        bucket(Connection((200, "<html>"))).protection()
    with pytest.raises(BedstoneError, match="access key of"):
        s3.read_keys(tmp_path / "s3.json")


def test_keys_are_read_from_the_roles_file(tmp_path: Path) -> None:
    path = tmp_path / "s3.json"
    path.write_text(json.dumps({"access_key": "a", "secret_key": "s"}))
    assert s3.read_keys(path) == Keys("a", "s")
