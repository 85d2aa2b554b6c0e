"""The files that a restore over SFTP holds open are counted from the backup's own list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bedstone import pgbackrest_handles


def manifest(**files: Mapping[str, object]) -> list[str]:
    lines = [f"pg_data/base/{name}={json.dumps(entry)}" for name, entry in files.items()]
    return [
        "[backup]", 'backup-label="20261120-010000F"', "",
        "[target:file]", *lines, "",
        "[target:file:default]", 'group="postgres"', 'mode="0600"', "",
        "[target:path]", "pg_data={}",
    ]  # fmt: skip


def count(**files: Mapping[str, object]) -> int:
    return pgbackrest_handles.of_manifest(manifest(**files))


def test_file_of_its_own_is_a_handle() -> None:
    assert count(a={"size": 9_000_000}, b={"size": 8_000_000}) == 2


def test_empty_files_are_not_read() -> None:
    assert count(a={"size": 0}, b={"checksum": "x", "size": 0, "bni": 1}) == 0


def test_neighbours_in_a_bundle_are_one_handle() -> None:
    assert count(
        a={"bni": 1, "size": 100, "repo-size": 40},
        b={"bni": 1, "bno": 40, "size": 100, "repo-size": 50},
        c={"bni": 1, "bno": 90, "size": 100},
    ) == 1  # fmt: skip


def test_gap_in_a_bundle_is_another_handle() -> None:
    assert count(
        a={"bni": 1, "size": 100, "repo-size": 40},
        c={"bni": 1, "bno": 90, "size": 100, "repo-size": 10},
    ) == 2  # fmt: skip


def test_bundles_of_two_backups_are_two() -> None:
    assert count(
        a={"bni": 1, "size": 40, "reference": "20261101-010000F"},
        b={"bni": 1, "bno": 40, "size": 40},
        c={"bni": 2, "size": 40},
    ) == 3  # fmt: skip


def test_blocks_of_a_file_take_handles_of_their_own() -> None:
    assert count(a={"bni": 1, "size": 100, "bi": 1, "bim": 30}) == 2


def test_name_with_an_equals_sign_is_read() -> None:
    assert count(**{"a=b": {"size": 5}}) == 1


def test_cluster_is_estimated_by_its_large_files_and_bundles(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"small{number}").write_bytes(b"x" * 1000)
    for number in range(3):
        with (tmp_path / f"large{number}").open("wb") as file:
            file.truncate(3_000_000)
    wal = tmp_path / "pg_wal"
    wal.mkdir()
    with (wal / "000000010000000000000001").open("wb") as file:
        file.truncate(16_000_000)
    assert pgbackrest_handles.of_cluster(tmp_path) == 3 + 2
