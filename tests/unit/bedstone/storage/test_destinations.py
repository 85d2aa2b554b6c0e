"""The file that says where backups are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.core.errors import ConfigError, RefusedError
from bedstone.storage import destinations
from tests.unit.fixtures.offsite import BUCKET, LOCAL, OFFSITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.storage.destinations import Destinations


def test_without_a_file_there_is_this_server_alone(root: Path) -> None:
    found = destinations.load()

    assert [entry.name for entry in found.all] == ["local"]
    assert found.local.restic == root / "var/backups/bedstone/.restic"
    assert found.local.pgbackrest is None
    assert found.point_in_time is None


def test_destinations_are_read_local_first(declare: Callable[..., Destinations]) -> None:
    found = declare(
        point_in_time={
            "stanza": "main",
            "keep_days": 7,
            "keep_full": 2,
            "archive_timeout_seconds": 60,
        }
    )

    assert [entry.name for entry in found.all] == ["local", "offsite", "bucket"]
    assert [entry.name for entry in found.remote] == ["offsite", "bucket"]
    assert [entry.pgbackrest for entry in found.all] == [1, 2, None]
    assert found.get("offsite").words() == "sftp bedstone@backup.example.com:2222:/srv/bedstone"
    assert found.get("bucket").words() == "s3 s3.example.com/backups/payments"
    assert found.point_in_time is not None
    assert found.point_in_time.keep_days == 7


def test_an_unknown_name_is_refused_with_those_that_there_are(
    declare: Callable[..., Destinations],
) -> None:
    with pytest.raises(RefusedError) as raised:
        declare().get("ofsite")

    assert "Did you mean 'offsite'?" in raised.value.text()
    assert "local, offsite, bucket" in raised.value.text()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ((OFFSITE,), "has to be `local`"),
        ((OFFSITE, LOCAL), "has to be `local`"),
        ((LOCAL, OFFSITE, OFFSITE), "same name"),
        ((LOCAL, {**OFFSITE, "type": "ftp"}), "'ftp'"),
        ((LOCAL, {key: value for key, value in OFFSITE.items() if key != "host"}), "'host'"),
        ((LOCAL, {**BUCKET, "pgbackrest": "x"}), "invalid literal"),
    ],
)
def test_a_wrong_file_is_refused(
    declare: Callable[..., Destinations], entries: tuple[dict[str, object], ...], words: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        declare(*entries)

    assert words in raised.value.text()
    assert "provision.yml" in raised.value.text()


def test_a_file_of_another_schema_is_refused(declare: Callable[..., Destinations]) -> None:
    with pytest.raises(ConfigError, match="schema is 2"):
        declare(schema=2)


def test_a_file_that_is_no_json_is_refused(root: Path) -> None:
    path = root / "etc/bedstone/destinations.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")

    with pytest.raises(ConfigError, match="can't be read"):
        destinations.load()


def test_a_moment_to_come_is_not_read_as_the_present(declare: Callable[..., Destinations]) -> None:
    bucket = declare().get("bucket")
    with pytest.raises(RefusedError, match="is yet to come"):
        bucket.at(datetime.now(UTC) + timedelta(days=365))
    # Two clocks may differ a little.
    assert bucket.at(datetime.now(UTC) + timedelta(seconds=10)).as_of is not None
