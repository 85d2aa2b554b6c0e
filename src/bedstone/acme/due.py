"""Decide whether a certificate has to be issued, and whether it may be asked for now.

Pure functions of what is known and the time. A renewal goes by the fraction of a life, not by days:
90 days, 45 days and 160 hours are judged alike.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedstone.acme.config import Settings, Wanted
    from bedstone.acme.record import Record
    from bedstone.core.x509 import Certificate

# Let's Encrypt's integration guide: a third of a life is left, half of one below ten days.
LEFT = 1 / 3
LEFT_OF_A_SHORT_LIFE = 1 / 2
SHORT_LIFE = timedelta(days=10)
# The authority is asked for its advice once a day, and followed at most once a day.
DAY = timedelta(days=1)
# Between attempts that failed at the authority: an hour, twice as long each time, at most a day.
FIRST_PAUSE = timedelta(hours=1)
# By hand. Let's Encrypt takes five failed validations of a name in an hour.
SHORTEST_PAUSE = timedelta(minutes=15)


def why(
    settings: Settings,
    wanted: Wanted,
    record: Record,
    certificate: Certificate | None,
    now: datetime,
) -> str | None:
    """Return why a certificate has to be issued; None when the present one will do."""
    if record.issued is None or certificate is None:
        return "there is none yet"
    reasons = (
        (set(certificate.domains) != set(wanted.domains), "the domains changed"),
        (record.issued.directory != settings.directory, "the authority changed"),
        (record.issued.profile != settings.profile, "the profile changed"),
        (certificate.end <= now, "it has ended"),
        (certificate.used(now) >= renewal_share(certificate), "its life nears the end"),
        (_is_advised(record, certificate, now), "the authority asks for its renewal"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def renewal_share(certificate: Certificate) -> float:
    """Return how much of its life is over when a certificate is renewed."""
    short = certificate.end - certificate.start < SHORT_LIFE
    return 1 - (LEFT_OF_A_SHORT_LIFE if short else LEFT)


def _is_advised(record: Record, certificate: Certificate, now: datetime) -> bool:
    advice, issued = record.advice, record.issued
    return (
        advice is not None
        and issued is not None
        and advice.digest == certificate.digest
        and advice.renew_at is not None
        and advice.renew_at <= now
        and issued.at + DAY <= now
    )


def advice_is_due(record: Record, certificate: Certificate, now: datetime) -> bool:
    """Return whether the authority is to be asked for its advice."""
    advice = record.advice
    return advice is None or advice.digest != certificate.digest or advice.asked_at + DAY <= now


def asked_for(settings: Settings, wanted: Wanted) -> str:
    """Return what an order depends on, to be compared with that of another attempt."""
    return repr((replace(settings, certificates=()), sorted(wanted.domains)))


def waits_until(record: Record, now: datetime, asked_for: str, *, by_hand: bool) -> datetime | None:
    """Return until when the authority isn't asked again after failures; None: it may be asked."""
    failure = record.failure
    if failure is None or failure.orders == 0 or failure.asked_for != asked_for:
        return None
    pause = SHORTEST_PAUSE if by_hand else _pause(failure.orders)
    end = failure.at + pause
    # A clock that was ahead must not delay it for years.
    return end if now < end <= now + DAY else None


def _pause(orders: int) -> timedelta:
    pause = FIRST_PAUSE
    for _ in range(orders - 1):
        if pause >= DAY:
            break
        pause *= 2
    return min(pause, DAY)
