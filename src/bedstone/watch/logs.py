"""Check that the logs reach the collector, and that the journal still has what was not sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.core import age, paths
from bedstone.notify.alarms import Alarm
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A collector is restarted, a network is away for some minutes.
WARN_AFTER, RED_AFTER = timedelta(minutes=10), timedelta(hours=1)
_CONFIGURATION = "/etc/bedstone/logs/rsyslog.conf"
_PLACE = "/var/lib/bedstone-logs/journal"
_COMMAND = "`journalctl -u bedstone-logs -n 20` shows why"


@dataclass(frozen=True)
class Sent:
    """How far the journal was sent.

    Attributes:
        sent: the moment of the last line that was; None: unknown.
        waiting: the moment of the first line that was not; None: there is none.
        oldest: the moment of the oldest line in the journal.

    """

    sent: datetime | None
    waiting: datetime | None
    oldest: datetime | None


def gather(manager: Systemd | None = None) -> list[Sent]:
    """Return how far the journal was sent; nothing on a server without role logs."""
    if not paths.host(_CONFIGURATION).exists():
        return []
    manager = manager or Systemd()
    try:
        cursor = paths.host(_PLACE).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        # It was never started: the check of the services says so.
        return []
    sent, waiting = _moment(cursor), manager.first_in_journal(after=cursor)
    return [Sent(sent, waiting, manager.first_in_journal())]


def judge(given: Sequence[Sent], now: datetime) -> Iterator[Alarm]:
    """Yield an alarm while lines wait, and while lines are lost."""
    for found in given:
        yield from _judge(found, now)


def _judge(found: Sent, now: datetime) -> Iterator[Alarm]:
    if found.waiting is None or found.sent is None:
        return
    waits = now - found.waiting
    if waits >= WARN_AFTER:
        yield Alarm(
            "logs/waiting",
            "red" if waits >= RED_AFTER else "warning",
            f"the logs haven't reached the collector for {age.humanize(waits.total_seconds())}: the"
            " journal keeps them up to its limit (`base_journal_max_mb`)",
            _COMMAND,
        )
    if found.oldest is not None and found.oldest > found.sent:
        yield Alarm(
            "logs/lost",
            "red",
            f"the journal has dropped lines from {found.sent:%Y-%m-%d %H:%M} to"
            f" {found.oldest:%Y-%m-%d %H:%M} UTC, which the collector never got",
            f"{_COMMAND}; `base_journal_max_mb` keeps more",
        )


def _moment(cursor: str) -> datetime | None:
    """Return the moment in a cursor of the journal: `t`, hexadecimal microseconds."""
    parts = dict(part.partition("=")[::2] for part in cursor.split(";"))
    try:
        return datetime.fromtimestamp(int(parts["t"], 16) / 1_000_000, UTC)
    except (KeyError, ValueError, OverflowError):
        return None
