"""pgBackRest's output is translated to a cause; the texts are its own, from real runs."""

from __future__ import annotations

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.core.lock import LockedError
from bedstone.storage.destinations import Destination
from bedstone.wal import errors

OFFSITE = Destination("offsite", "sftp", 2, host="backup.example", user="b", path="/srv/b")

SAID: dict[str, tuple[str, type[BedstoneError], str]] = {
    "two at once": (
        ("ERROR: [050]: unable to acquire lock on file '/run/x/main-backup.lock': Resource"
        " temporarily unavailable\nHINT: is another pgBackRest process running?"),
        LockedError,
        "another backup of this cluster is running",
    ),
    "wrong key": (
        ("ERROR: [095]: unable to load info file '/r/archive/main/archive.info' or"
        " '/r/archive/main/archive.info.copy':\nCryptoError: cipher header invalid\n"
        "HINT: is or was the repo encrypted?"),
        errors.WrongKeyError,
        "encrypted with another key",
    ),
    "untrusted": (
        ("[CryptoError] unable to verify certificate presented by 'offsite:443': [20] unable to get"
        " local issuer certificate"),
        errors.UnreachableError,
        "isn't trusted here: unable to verify certificate presented by 'offsite:443'",
    ),
    "foreign": (
        ("ERROR: [028]: backup and archive info files exist but do not match the database\n"
        "HINT: is this the correct stanza?\nHINT: did an error occur during stanza-upgrade?"),
        errors.ForeignError,
        "that of another cluster",
    ),
    "WAL late": (
        ("ERROR: [082]: WAL segment 00000001000000000000000A was not archived before the 60000ms"
        " timeout"),
        BedstoneError,
        "WAL didn't arrive",
    ),
    "unreachable": (
        "ERROR: [049]: unable to connect to 'backup.example:22': [111] Connection refused",
        errors.UnreachableError,
        "can't be reached",
    ),
    "gone": (
        ("ERROR: [055]: unable to load info file '/r/backup/main/backup.info' or"
        " '/r/backup/main/backup.info.copy':\nFileMissingError: unable to open missing file"),
        errors.GoneError,
        "no whole repository",
    ),
    "disk full": (
        ("ERROR: [064]: unable to write '/srv/small/x.pgbackrest.tmp': libssh2 error [-31]: sftp"
        " error [4]"),
        errors.FullDiskError,
        "its disk is full",
    ),
    "something else": ("ERROR: [037]: backup command requires option: repo1-path", BedstoneError,
                       "backup command requires option: repo1-path"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_error_is_told_with_what_to_do(case: str) -> None:
    said, kind, words = SAID[case]
    error = errors.explained(said, OFFSITE, "The full backup")
    assert type(error) is kind
    assert words in error.message
    assert error.message.startswith("The full backup ")
    assert error.hint
    assert error.details == said


def test_place_is_named_in_the_message() -> None:
    said = SAID["unreachable"][0]
    error = errors.explained(said, OFFSITE, "The full backup")
    assert "offsite (sftp b@backup.example:/srv/b)" in error.message


def test_reason_comes_without_its_decoration() -> None:
    line = "2026-11-20 17:00:00.123 P00  ERROR: [037]: something is missing."
    assert errors.reason("ERROR: [037]: something is missing") == "something is missing"
    assert errors.reason(f"P00   WARN: careful\n{line}\n") == "something is missing"
