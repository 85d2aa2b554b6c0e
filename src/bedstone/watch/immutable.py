"""Check that this server can't destroy its backups at the destinations that are immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.notify.alarms import Alarm
from bedstone.offsite import canary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from bedstone.offsite.canary import Attempt
    from bedstone.storage.s3 import Protection

_PAGE = "docs/backups-immutable.md says how it is to be made"


def gather() -> list[Attempt]:
    """Try to delete a canary at each immutable destination; there may be none."""
    return canary.attempts()


def judge(found: Iterable[Attempt], _now: datetime) -> Iterator[Alarm]:
    """Yield a red alarm where something could be deleted, a warning where that isn't certain."""
    for attempt in found:
        name = f"immutable/{attempt.destination}"
        if attempt.deleted:
            what = " and ".join(attempt.deleted)
            yield Alarm(
                name,
                "red",
                f"{what} at {attempt.destination} can be deleted for good with this server's own"
                " key: the destination isn't immutable",
                _PAGE,
            )
        elif attempt.error is not None:
            yield Alarm(
                name,
                "warning",
                f"whether {attempt.destination} is immutable isn't known: {attempt.error}",
                "`bedstone alarms` tries again",
            )
        elif attempt.unlocked:
            what = " and ".join(attempt.unlocked)
            yield Alarm(
                name,
                "warning",
                f"{what} at {attempt.destination} can be deleted for good once their lock has"
                " ended: this server's key has the right to delete versions",
                _PAGE,
            )
        elif (lack := attempt.protection and _lack(attempt.protection)) is not None:
            yield Alarm(name, "warning", f"the bucket of {attempt.destination} {lack}", _PAGE)


def _lack(protection: Protection) -> str | None:
    if not protection.versioned:
        return "keeps no versions: what is overwritten there is lost"
    if not protection.days:
        return (
            "has no object lock with a default retention: only the rights of this server's key keep"
            " its versions"
        )
    return None
