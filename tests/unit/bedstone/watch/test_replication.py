from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from bedstone.watch import replication

NOW = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)
STREAMS: dict[str, Any] = {
    "slot": "bedstone_db2",
    "active": True,
    "wal_status": "reserved",
    "state": "streaming",
    "kept_bytes": 0,
    "behind_bytes": 1000,
    "behind_seconds": 0.1,
}
PRIMARY = {"in_recovery": False, "receiver": None, "behind_bytes": None, "paused": None}
STANDBY: dict[str, Any] = {
    "in_recovery": True,
    "receiver": "streaming",
    "behind_bytes": 0,
    "replayed_seconds": 600.0,
    "paused": False,
}


def of_primary(slot: dict[str, Any] | None, own: dict[str, Any] = PRIMARY) -> list[tuple[str, str]]:
    found = {"primary": None, "standby": own, "replicas": [{"name": "db2", "slot": slot}]}
    return [(alarm.severity, alarm.text()) for alarm in replication.judge(found, NOW)]


def of_standby(**changes: Any) -> list[tuple[str, str]]:
    found = {"primary": "web1", "standby": STANDBY | changes, "replicas": []}
    return [(alarm.severity, alarm.text()) for alarm in replication.judge(found, NOW)]


def test_all_well_is_silent() -> None:
    assert of_primary(STREAMS) == []
    assert of_standby() == []
    assert list(replication.judge({}, NOW)) == []


@pytest.mark.parametrize(
    ("slot", "severity", "words"),
    [
        (None, "red", "has no replication slot: `sudo bedstone replica prepare`"),
        (STREAMS | {"active": False}, "red", "is not connected"),
        (
            STREAMS | {"active": False, "wal_status": "lost", "kept_bytes": None},
            "red",
            "WAL it needs is gone: `sudo bedstone replica seed` on db2",
        ),
        (STREAMS | {"behind_bytes": 2**30}, "warning", "is 1.0 GiB behind"),
        (STREAMS | {"behind_seconds": 301.0}, "warning", "behind (5 minutes)"),
    ],
)
def test_primary_tells_of_each_copy(slot: dict[str, Any] | None, severity: str, words: str) -> None:
    ((told, text),) = of_primary(slot)
    assert told == severity
    assert words in text


def test_declared_primary_that_is_a_standby_is_red() -> None:
    ((severity, text),) = of_primary(STREAMS, STANDBY)
    assert severity == "red"
    assert "apps can't write: `sudo bedstone promote`" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"receiver": None}, "gets no changes; the newest change here is 10 minutes old"),
        ({"receiver": None, "replayed_seconds": None}, "gets no changes: `tail"),
        ({"paused": True}, "doesn't replay what it gets"),
        ({"behind_bytes": 2**30}, "this copy is 1.0 GiB behind"),
        (PRIMARY, "is a primary, and by the inventory it is a copy of web1"),
    ],
)
def test_copy_tells_of_itself(changes: dict[str, Any], words: str) -> None:
    ((_, text),) = of_standby(**changes)
    assert words in text
