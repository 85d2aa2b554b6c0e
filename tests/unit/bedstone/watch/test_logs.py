"""Logs on their way to a collector: lines that wait, and lines that are lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone.core.process import Completed
from bedstone.system.systemd import Systemd
from bedstone.watch import logs
from bedstone.watch.logs import Sent

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MOMENT = datetime(2026, 11, 20, 11, 59, 30, tzinfo=UTC)
CURSOR = f"s=0a;i=2fb;b=0b;m=25713942;t={int(MOMENT.timestamp() * 1_000_000):x};x=0c"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


def configured(root: Path, cursor: str | None = CURSOR) -> None:
    (root / "etc/bedstone/logs").mkdir(parents=True)
    (root / "etc/bedstone/logs/rsyslog.conf").touch()
    (root / "var/lib/bedstone-logs").mkdir(parents=True)
    if cursor is not None:
        (root / "var/lib/bedstone-logs/journal").write_text(cursor)


def journal(first: datetime | None, after: datetime | None) -> Systemd:
    """Return a journal with a first entry, and a first one after the cursor."""

    def run(argv: Sequence[str], **_: Any) -> Completed:
        words = list(argv)
        found = after if "--after-cursor" in words else first
        if "--after-cursor" in words:
            assert words[words.index("--after-cursor") + 1] == CURSOR
        entry = {"__REALTIME_TIMESTAMP": str(int(found.timestamp() * 1_000_000))} if found else None
        return Completed(tuple(words), 0, json.dumps(entry) + "\n" if entry else "", "", 0.0)

    return Systemd(run)


def test_server_without_the_role_has_nothing_to_judge() -> None:
    assert logs.gather(journal(None, None)) == []


def test_how_far_the_journal_was_sent_follows_from_the_cursor(root: Path) -> None:
    configured(root)
    first, after = MOMENT - timedelta(days=3), MOMENT + timedelta(seconds=5)
    assert logs.gather(journal(first, after)) == [Sent(MOMENT, after, first)]
    assert logs.gather(journal(first, None)) == [Sent(MOMENT, None, first)]


def test_place_that_was_never_written_is_nothing(root: Path) -> None:
    configured(root, None)
    assert logs.gather(journal(MOMENT, MOMENT)) == []


def test_damaged_place_raises_nothing(root: Path) -> None:
    configured(root, "t=zz")
    assert list(logs.judge([Sent(None, MOMENT, MOMENT)], NOW)) == []


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(9, []), (11, ["warning"]), (59, ["warning"]), (61, ["red"])],
)
def test_lines_that_wait_are_told_by_their_age(minutes: int, expected: list[str]) -> None:
    waiting = NOW - timedelta(minutes=minutes)
    sent = Sent(waiting - timedelta(seconds=1), waiting, waiting - timedelta(days=1))
    found = list(logs.judge([sent], NOW))
    assert [alarm.severity for alarm in found] == expected
    assert all("journalctl -u bedstone-logs" in alarm.command for alarm in found)


def test_all_sent_is_quiet_however_old_it_is() -> None:
    quiet = Sent(NOW - timedelta(days=2), None, NOW - timedelta(days=9))
    assert list(logs.judge([quiet], NOW)) == []


def test_lines_that_the_journal_dropped_are_red_at_once() -> None:
    oldest = NOW - timedelta(minutes=2)
    (alarm,) = logs.judge([Sent(NOW - timedelta(minutes=8), oldest, oldest)], NOW)
    assert (alarm.name, alarm.severity) == ("logs/lost", "red")
    assert "from 2026-11-20 11:52 to 2026-11-20 11:58" in alarm.words
