"""A canary at an immutable destination: it stays, or what is wrong is told and it is put back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.offsite import canary
from bedstone.offsite.canary import Attempt
from bedstone.storage import s3
from bedstone.storage.destinations import Destination
from bedstone.storage.restic import Snapshot
from bedstone.storage.s3 import Protection, S3Error, Version

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

PLACE = Destination(
    "vault", "s3", 2, endpoint="s3.example", bucket="b", path="/web1", immutable=True
)
ACCOUNT = Destination("archive", "sftp", host="h", user="u", path="/srv/x", immutable=True)
KEY = "web1/restic/bedstone-canary"
PROTECTED = Protection(versioned=True, mode="COMPLIANCE", days=30)


class Bucket:
    """A bucket: its versions, and how it answers a deletion."""

    stored: ClassVar[list[Version]] = []
    tried: ClassVar[list[tuple[str, str]]] = []
    refuses: int | None = 403
    locked = False
    asked: Protection | S3Error = PROTECTED

    def __init__(self, _place: Destination, _keys: object) -> None:
        pass

    def protection(self) -> Protection:
        if isinstance(self.asked, S3Error):
            raise self.asked
        return self.asked

    def versions(self, key: str) -> list[Version]:
        return [version for version in self.stored if version.key.startswith(key)]

    def put(self, key: str, body: bytes) -> None:
        name = str(len(self.stored))
        self.stored.append(Version(key, name, datetime.now(UTC), len(body), deleted=False))

    def delete(self, key: str, name: str) -> None:
        self.tried.append((key, name))
        if self.locked and name != "null":
            raise S3Error("locked", 403)
        if self.refuses is not None:
            raise S3Error(f"answers {self.refuses}", self.refuses)
        self.stored[:] = [v for v in self.stored if (v.key, v.id) != (key, name)]


class Repository:
    """An append-only account, or one that only pretends to be."""

    forgets = False

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.made: list[Snapshot] = []

    def snapshots(self) -> list[Snapshot]:
        return self.made

    def backup(self, _directory: Path, _names: list[str], tags: dict[str, str]) -> tuple[str, Any]:
        name = f"s{len(self.made) + 1}"
        self.made.append(Snapshot(name, datetime.now(UTC), tags))
        return name, []

    def drop(self, snapshot: str) -> None:
        if self.forgets:
            self.made[:] = [s for s in self.made if s.id != snapshot]


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> type[Bucket]:
    monkeypatch.setattr(Bucket, "stored", [])
    monkeypatch.setattr(Bucket, "tried", [])
    monkeypatch.setattr(canary, "Bucket", Bucket)
    monkeypatch.setattr(s3, "read_keys", lambda _path: None)
    return Bucket


def ids(key: str = KEY) -> Collection[str]:
    return [version.id for version in Bucket.stored if version.key == key]


@pytest.mark.parametrize("status", [400, 403, 405])
def test_refused_deletion_is_what_is_wanted(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(Bucket, "refuses", status)
    assert canary.attempt(PLACE) == Attempt("vault", protection=PROTECTED)
    assert {version.key for version in Bucket.stored} == {
        KEY,
        "web1/pgbackrest/bedstone-canary",
    }
    canary.attempt(PLACE)
    assert len(Bucket.stored) == 2


def test_deleted_canary_is_told_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "refuses", None)
    assert canary.attempt(PLACE).deleted == ("backups", "WAL")
    assert len(ids()) == 1
    only = Destination("vault", "s3", None, endpoint="s3.example", bucket="b", immutable=True)
    assert canary.attempt(only).deleted == ("backups",)
    assert len(ids("restic/bedstone-canary")) == 1


def test_oldest_canary_is_tried_as_old_backups_would_be() -> None:
    old = datetime.now(UTC) - timedelta(days=40)
    Bucket.stored.append(Version(KEY, "new", datetime.now(UTC), 1, deleted=False))
    Bucket.stored.append(Version(KEY, "old", old, 1, deleted=False))
    canary.attempt(PLACE)
    assert Bucket.tried[0] == (KEY, "old")


def test_right_that_only_a_lock_holds_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "locked", True)
    monkeypatch.setattr(Bucket, "refuses", None)
    assert canary.attempt(PLACE).unlocked == ("backups", "WAL")
    assert canary.attempt(PLACE).deleted == ()


def test_service_that_is_out_of_order_has_refused_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "refuses", 503)
    assert canary.attempt(PLACE) == Attempt("vault", error="answers 503")


def test_bucket_that_may_not_be_asked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "asked", S3Error("vault answers 403", 403))
    assert canary.attempt(PLACE) == Attempt("vault", error="vault answers 403")


@pytest.mark.parametrize("forgets", [False, True])
def test_snapshot_tells_of_an_account(monkeypatch: pytest.MonkeyPatch, *, forgets: bool) -> None:
    made = Repository(ACCOUNT)
    monkeypatch.setattr(Repository, "forgets", forgets)
    monkeypatch.setattr(canary, "Repository", lambda _place: made)
    assert canary.attempt(ACCOUNT) == Attempt("archive", ("snapshots",) if forgets else ())
    assert [snapshot.tags for snapshot in made.made] == [{"kind": "canary"}]


def test_destination_that_fails_keeps_no_other_from_being_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_place: Destination) -> Repository:
        raise BedstoneError("archive can't be reached.")

    monkeypatch.setattr(canary, "Repository", fail)
    assert canary.attempt(ACCOUNT) == Attempt("archive", error="archive can't be reached.")
