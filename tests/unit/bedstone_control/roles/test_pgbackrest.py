"""Role pgbackrest's destinations: their numbers, their keys, and what can't be used."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.roles.pgbackrest import (
    known_hosts,
    pgbackrest_checks,
    pgbackrest_files,
    pgbackrest_repositories,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA"
SFTP: dict[str, Any] = {
    "name": "offsite", "type": "sftp", "host": "backup.example", "user": "bedstone",
    "path": "/srv/bedstone/", "host_keys": [KEY], "private_key": "secret", "wal": True,
}  # fmt: skip
S3: dict[str, Any] = {
    "name": "bucket", "type": "s3", "endpoint": "s3.example", "bucket": "b", "path": "",
    "access_key": "a", "secret_key": "s",
}  # fmt: skip


def problem(entry: dict[str, Any], *, has_key: bool = True) -> str:
    (found,) = pgbackrest_checks([entry], has_key=has_key)
    assert found["ok"] == (not found["message"])
    return str(found["message"])


def test_repositories_are_numbered_after_the_local_one() -> None:
    found = pgbackrest_repositories([SFTP, {**SFTP, "name": "dumps", "wal": False}, S3])
    assert [(entry["name"], entry["number"]) for entry in found] == [("offsite", 2), ("bucket", 3)]
    assert [entry["path"] for entry in found] == ["/srv/bedstone/pgbackrest", "/pgbackrest"]
    assert found[0]["port"] == 22
    assert found[1]["path_style"] is True


def test_files_of_keys_are_the_databases_users_alone() -> None:
    files = pgbackrest_files(pgbackrest_repositories([SFTP, S3]))
    assert [file["path"] for file in files] == [
        "/etc/pgbackrest/destinations/offsite/id",
        "/etc/pgbackrest/destinations/offsite/known_hosts",
    ]
    assert {(file["owner"], file["mode"]) for file in files} == {("postgres", "0600")}
    assert files[0]["sensitive"]
    assert files[0]["content"] == "secret\n"


def test_postgresql_has_the_account_and_the_keys_that_are_its_own() -> None:
    own = {"wal_access_key": "wa", "wal_secret_key": "ws"}
    account = {"wal_user": "wal", "wal_private_key": "of the log"}
    given = [{**SFTP, **account}, {**S3, **own}]

    found = pgbackrest_repositories(given)
    assert (found[0]["user"], found[0]["private_key"]) == ("wal", "of the log")
    assert (found[1]["access_key"], found[1]["secret_key"]) == ("wa", "ws")

    roots = pgbackrest_repositories(given, own_keys=False)
    assert (roots[0]["user"], roots[0]["private_key"]) == ("bedstone", "secret")
    assert roots[1]["access_key"] == "a"


def test_immutable_bucket_needs_keys_of_postgresqls_own() -> None:
    assert "wal_access_key, wal_secret_key" in problem({**S3, "immutable": True})
    own = {"wal_access_key": "wa", "wal_secret_key": "ws"}
    assert problem({**S3, "immutable": True, **own}) == ""
    assert problem({**S3, "immutable": True, "wal": False}) == ""
    assert "wal_private_key" in problem({**SFTP, "wal_user": "wal"})


def test_account_that_only_appends_keeps_no_wal() -> None:
    assert "can't be immutable and keep WAL" in problem({**SFTP, "immutable": True})
    found = pgbackrest_checks([{**SFTP, "immutable": True, "wal": False}], has_key=True, every=True)
    assert found[0]["ok"]


@pytest.mark.parametrize("line", [KEY, f"{KEY} root@backup", f"backup.example {KEY}"])
def test_known_hosts_takes_keys_as_they_are_found(line: str) -> None:
    assert known_hosts("backup.example", 22, [line]) == f"backup.example {KEY}\n"
    assert known_hosts("backup.example", 2222, [line]) == f"[backup.example]:2222 {KEY}\n"


def test_what_is_no_key_is_left_out() -> None:
    assert known_hosts("h", 22, ["# backup.example:22 SSH-2.0", "", "ssh-ed25519"]) == ""


def test_complete_destinations_are_fine() -> None:
    assert problem(SFTP) == ""
    assert problem(S3) == ""


def test_destination_without_a_key_is_refused() -> None:
    assert "no key to encrypt" in problem(S3, has_key=False)


@pytest.mark.parametrize("field", ["host", "user", "path", "host_keys", "private_key"])
def test_what_is_missing_is_named(field: str) -> None:
    assert field in problem({name: value for name, value in SFTP.items() if name != field})


def test_host_keys_without_a_key_are_refused() -> None:
    assert "ssh-keyscan backup.example" in problem({**SFTP, "host_keys": ["backup.example"]})
