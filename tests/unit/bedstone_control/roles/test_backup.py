"""What role backup makes of destinations: what the host program reads, and files of keys."""

from __future__ import annotations

import json
from typing import Any

from bedstone.storage import destinations as host_destinations
from bedstone_control.roles.backup import backup_destinations, backup_files, backup_key_directories
from bedstone_control.roles.pgbackrest import pgbackrest_files, pgbackrest_repositories

OFFSITE: dict[str, Any] = {
    "name": "offsite",
    "type": "sftp",
    "host": "backup.example.com",
    "port": 2222,
    "user": "bedstone",
    "path": "/srv/bedstone",
    "host_keys": ["ssh-ed25519 AAAA"],
    "private_key": "a private key",
    "wal": False,
}
BUCKET: dict[str, Any] = {
    "name": "bucket",
    "type": "s3",
    "endpoint": "s3.example.com",
    "bucket": "backups",
    "path": "/payments",
    "access_key": "an-access-key",
    "secret_key": "a-secret-key",
}


def shaped(*, point_in_time: bool) -> list[dict[str, Any]]:
    given = [OFFSITE, BUCKET]
    return backup_destinations(
        given,
        pgbackrest_repositories(given),
        directory="/var/backups/bedstone",
        point_in_time=point_in_time,
    )


def test_the_host_program_reads_what_the_role_writes() -> None:
    found = host_destinations.parse(
        {"schema": 1, "point_in_time": None, "destinations": shaped(point_in_time=True)}
    )

    assert [place.name for place in found.all] == ["local", "offsite", "bucket"]
    # Repositories of WAL are numbered as role pgbackrest numbers them.
    assert [place.pgbackrest for place in found.all] == [1, None, 2]
    assert found.get("offsite").port == 2222
    assert found.get("bucket").region == "us-east-1"
    assert str(found.local.restic).endswith("/var/backups/bedstone/.restic")


def test_without_point_in_time_no_destination_has_wal() -> None:
    assert {entry["pgbackrest"] for entry in shaped(point_in_time=False)} == {None}


def test_no_secret_is_in_what_others_may_read() -> None:
    text = json.dumps(shaped(point_in_time=True))

    assert not any(secret in text for secret in ("a private key", "an-access-key", "a-secret-key"))


def test_keys_are_roots_alone_and_hidden_from_differences() -> None:
    every = [{**entry, "wal": True} for entry in (OFFSITE, BUCKET)]

    files = backup_files(every, pgbackrest_files(pgbackrest_repositories(every)))

    assert {entry["path"] for entry in files} == {
        "/etc/bedstone/destinations/offsite/id",
        "/etc/bedstone/destinations/offsite/known_hosts",
        "/etc/bedstone/destinations/bucket/s3.json",
    }
    assert {entry["mode"] for entry in files} == {"0600"}
    assert {entry.get("owner", "root") for entry in files} == {"root"}
    hidden = {entry["path"].rpartition("/")[2] for entry in files if entry["sensitive"]}
    assert hidden == {"id", "s3.json"}


def test_root_tries_an_immutable_bucket_with_the_key_for_wal_too() -> None:
    own = {"wal_access_key": "wa", "wal_secret_key": "ws", "immutable": True}
    files = {file["path"].rpartition("/")[2]: file for file in backup_files([BUCKET | own], [])}

    assert json.loads(files["s3-wal.json"]["content"]) == {"access_key": "wa", "secret_key": "ws"}
    assert json.loads(files["s3.json"]["content"])["access_key"] == "an-access-key"
    assert (files["s3-wal.json"]["mode"], files["s3-wal.json"]["sensitive"]) == ("0600", True)
    shape = backup_destinations([BUCKET | own], [], directory="/b", point_in_time=False)
    assert shape[1]["immutable"] is True


def test_directories_of_keys_are_those_of_the_destinations_alone() -> None:
    every = [{**entry, "wal": True} for entry in (OFFSITE, BUCKET)]
    files = backup_files(every, pgbackrest_files(pgbackrest_repositories(every)))

    found = backup_key_directories(
        [{"path": "/etc/bedstone/backup.key"}, *files], mode="0700", owner="root"
    )

    assert found == [
        {"path": f"/etc/bedstone/destinations/{name}", "mode": "0700", "owner": "root"}
        for name in ("bucket", "offsite")
    ]
