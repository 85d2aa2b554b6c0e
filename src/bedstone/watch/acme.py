"""Check that the certificates by ACME could be got and renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.acme import state
from bedstone.core import age
from bedstone.notify.alarms import Alarm
from bedstone.watch.certificates import RED_AT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from bedstone.acme.state import State


def gather() -> list[State]:
    """Return the certificates; none on a server without role acme."""
    return state.gather()


def judge(found: Iterable[State], now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for each that couldn't be got, red when browsers refuse the site or soon will.

    One that merely nears its end is the business of the check of all certificates.
    """
    for entry in found:
        if entry.failure is None:
            continue
        since = age.humanize((now - entry.failure.since).total_seconds())
        if entry.certificate is None:
            what = f"{entry.name} has no certificate by ACME and serves one of Bedstone's authority"
        else:
            what = f"the certificate of {entry.name} can't be renewed"
        lost = entry.certificate is None or entry.certificate.used(now) >= RED_AT
        yield Alarm(
            f"acme/{entry.name}",
            "red" if lost else "warning",
            f"{what}, for {since}: {entry.failure.reason.rstrip('.')}",
            "`bedstone certificates renew` tries again, as the timer does each hour",
            entry.name,
        )
