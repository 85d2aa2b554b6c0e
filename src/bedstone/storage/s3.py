"""Speak S3 where the engines don't: versions of objects, and what protects a bucket.

Signed by AWS Signature Version 4 with the standard library: a key stays in this process's memory.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree as ET

from bedstone.core.errors import BedstoneError
from bedstone.storage import reachability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bedstone.storage.destinations import Destination

# Of a destination: the keys for the backups, and PostgreSQL's for the WAL.
FILE = "s3.json"
WAL_FILE = "s3-wal.json"
_SECONDS = 60.0
# RFC 3986's unreserved characters; a key's slashes stay, too.
_UNRESERVED = "-_.~"
_SHOWN = 300
_OK = 300
_FORBIDDEN = 403
_NOT_FOUND = 404


class S3Error(BedstoneError):
    """A bucket answered with an error.

    Attributes:
        status: HTTP's.

    """

    def __init__(self, message: str, status: int, *, details: str = "") -> None:
        super().__init__(message, details=details)
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Return whether the bucket refused what it understood."""
        return self.status == _FORBIDDEN


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Version:
    """One version of an object.

    Attributes:
        key: the object's.
        id: the version's.
        modified: when it was written.
        size: in bytes.
        deleted: whether it marks the object as deleted.

    """

    key: str
    id: str
    modified: datetime
    size: int
    deleted: bool


@dataclass(frozen=True)
class Protection:
    """What a bucket keeps, whatever a key may do.

    Attributes:
        versioned: what is overwritten or deleted stays as a version.
        mode: of the default retention, ``COMPLIANCE`` or ``GOVERNANCE``; None without one.
        days: for so many days a version can't be deleted.

    """

    versioned: bool
    mode: str | None = None
    days: int = 0


def read_keys(path: Path) -> Keys:
    """Return the keys in a file that role `backup` writes.

    Raises:
        BedstoneError: it can't be read.

    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Keys(found["access_key"], found["secret_key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BedstoneError(
            f"The access key of {path.parent.name} can't be read from {path}.",
            hint="Run `provision.yml`, which writes it.",
        ) from error


class Bucket:
    """The bucket of a destination."""

    def __init__(
        self,
        destination: Destination,
        keys: Keys,
        *,
        connect: Callable[[str], http.client.HTTPConnection] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take where it is; ``connect`` and ``clock`` are replaced by tests."""
        self._destination = destination
        self._keys = keys
        self._connect = connect or _connect
        self._clock = clock

    def protection(self) -> Protection:
        """Return whether the bucket is versioned, and its default retention.

        Raises:
            S3Error: it may not be asked, or doesn't know.

        """
        versioning = self._document("GET", query={"versioning": ""})
        versioned = versioning.findtext("Status") == "Enabled"
        try:
            lock = self._document("GET", query={"object-lock": ""})
        except S3Error as error:
            if error.status != _NOT_FOUND:
                raise
            return Protection(versioned)
        kept = lock.find("Rule/DefaultRetention")
        if kept is None:
            return Protection(versioned)
        days = int(kept.findtext("Days") or 0) + 365 * int(kept.findtext("Years") or 0)
        return Protection(versioned, kept.findtext("Mode"), days)

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield all versions of all objects whose keys begin with a prefix.

        Raises:
            S3Error: they may not be listed.

        """
        query = {"versions": "", "prefix": prefix, "max-keys": "1000"}
        while True:
            page = self._document("GET", query=query)
            for entry in page:
                if entry.tag in {"Version", "DeleteMarker"}:
                    yield _version(entry)
            if page.findtext("IsTruncated") != "true":
                return
            query["key-marker"] = page.findtext("NextKeyMarker") or ""
            query["version-id-marker"] = page.findtext("NextVersionIdMarker") or ""

    def put(self, key: str, body: bytes) -> None:
        """Write an object.

        Raises:
            S3Error: it was refused.

        """
        # A bucket with an object lock takes nothing without a checksum.
        checksum = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        self._whole("PUT", key, body=body, headers={"content-md5": checksum})

    def delete(self, key: str, version: str | None = None) -> None:
        """Delete one version of an object, by every right that the key has.

        Without a version, the object is marked as deleted.

        Raises:
            S3Error: it was refused.

        """
        query = {"versionId": version} if version else {}
        headers = {"x-amz-bypass-governance-retention": "true"} if version else {}
        self._whole("DELETE", key, query=query, headers=headers)

    def open(
        self, key: str, version: str, bytes_range: str | None = None
    ) -> http.client.HTTPResponse:
        """Return the answer with a version's content, to be read and closed by the caller.

        Args:
            key: the object's.
            version: the version's id.
            bytes_range: HTTP's header Range, for a part alone.

        Raises:
            S3Error: it isn't there, or can't be read.

        """
        headers = {"range": bytes_range} if bytes_range else {}
        answer = self._send("GET", key, {"versionId": version}, b"", headers)
        if answer.status >= _OK:
            raise self._error(answer.status, answer.read())
        return answer

    def _document(self, method: str, *, query: Mapping[str, str]) -> ET.Element:
        text = self._whole(method, "", query=query)
        try:
            # The service is one that the operator declared, reached by TLS with its certificate.
            root = ET.fromstring(text)  # noqa: S314
        except ET.ParseError as error:
            raise S3Error(f"{self._words()} didn't answer as S3 does: {error}.", 0) from error
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def _whole(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        answer = self._send(method, key, query or {}, body, headers or {})
        with answer:
            text = answer.read()
        if answer.status >= _OK:
            raise self._error(answer.status, text)
        return text

    def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        place = self._destination
        host = place.endpoint if place.path_style else f"{place.bucket}.{place.endpoint}"
        path = f"/{place.bucket}/{key}" if place.path_style else f"/{key}"
        path = quote(path.rstrip("/") or "/", safe=f"/{_UNRESERVED}")
        pairs = {quote(k, safe=_UNRESERVED): quote(v, safe=_UNRESERVED) for k, v in query.items()}
        text = "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
        signed = sign(
            method,
            path,
            text,
            {**headers, "host": host},
            body,
            keys=self._keys,
            region=place.region,
            moment=self._clock(),
        )
        connection = self._connect(host)
        try:
            target = f"{path}?{text}" if text else path
            connection.request(method, target, body, {**signed, "connection": "close"})
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise S3Error(f"{self._words()} can't be reached: {error}.", 0) from error

    def _error(self, status: int, text: bytes) -> S3Error:
        said = text.decode("utf-8", "replace")
        code = re.search(r"<Code>([^<]*)</Code>", said)
        words = f"{status} {code[1]}" if code else str(status)
        return S3Error(f"{self._words()} answers {words}.", status, details=said[:_SHOWN])

    def _words(self) -> str:
        return f"{self._destination.name} ({self._destination.words()})"


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    keys: Keys,
    region: str,
    moment: datetime,
) -> dict[str, str]:
    """Return the headers of a request with its signature (AWS Signature Version 4).

    Args:
        method: HTTP's.
        path: encoded.
        query: encoded and sorted.
        headers: their names in small letters; ``host`` is one of them.
        body: what is sent.
        keys: sign it.
        region: the bucket's.
        moment: now, in UTC.

    """
    digest = hashlib.sha256(body).hexdigest()
    stamp = f"{moment:%Y%m%dT%H%M%SZ}"
    sent = {**headers, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(sent))
    lines = "".join(f"{name}:{sent[name].strip()}\n" for name in sorted(sent))
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    said = f"Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**sent, "authorization": f"AWS4-HMAC-SHA256 {said}"}


def _version(entry: ET.Element) -> Version:
    return Version(
        key=entry.findtext("Key") or "",
        id=entry.findtext("VersionId") or "",
        modified=datetime.fromisoformat(entry.findtext("LastModified") or "").astimezone(UTC),
        size=int(entry.findtext("Size") or 0),
        deleted=entry.tag == "DeleteMarker",
    )


def _connect(host: str) -> http.client.HTTPConnection:
    return http.client.HTTPSConnection(host, timeout=_SECONDS, context=reachability.context())
