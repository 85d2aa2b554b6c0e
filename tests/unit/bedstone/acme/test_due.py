"""When a certificate is due: by the fraction of its life, after changes, on the CA's advice."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from bedstone.acme import due
from bedstone.acme.config import Settings, Wanted
from bedstone.acme.record import Advice, Failure, Issued, Record
from bedstone.core.x509 import Certificate

NOW = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
SETTINGS = Settings("https://ca.example.com/dir", None, False, None, None, None, True, ())
WANTED = Wanted("pay", ("a.example.com", "b.example.com"))
ISSUED = Issued(NOW - 2 * DAY, SETTINGS.directory, None, "/c", "/k")


def certificate(used: float = 0.1, days: float = 90) -> Certificate:
    start = NOW - dt.timedelta(days=days * used)
    domains = ("b.example.com", "a.example.com")
    return Certificate("", start, start + days * DAY, "digest", domains=domains)


def why(used: float = 0.1, days: float = 90, record: Record | None = None) -> str | None:
    return due.why(SETTINGS, WANTED, record or Record(ISSUED), certificate(used, days), NOW)


@pytest.mark.parametrize(
    ("used", "days", "said"),
    [
        (0.65, 90, "not due"), (0.67, 90, "its life"),
        (0.65, 45, "not due"), (0.67, 45, "its life"),
        (0.48, 160 / 24, "not due"), (0.52, 160 / 24, "its life"),
        (0.65, 365, "not due"), (1.1, 90, "it has ended"),
    ],
)  # fmt: skip
def test_a_third_of_the_life_is_left_at_renewal_half_of_a_short_one(
    used: float, days: float, said: str
) -> None:
    assert (why(used, days) or "not due").startswith(said)


def test_none_yet_or_a_damaged_one_is_due() -> None:
    assert due.why(SETTINGS, WANTED, Record(), None, NOW) == "there is none yet"
    assert due.why(SETTINGS, WANTED, Record(ISSUED), None, NOW) == "there is none yet"


@pytest.mark.parametrize(
    ("settings", "wanted", "reason"),
    [
        (SETTINGS, Wanted("pay", ("a.example.com",)), "the domains changed"),
        (SETTINGS, Wanted("pay", (*WANTED.domains, "c.example.com")), "the domains changed"),
        (replace(SETTINGS, directory="https://b/dir"), WANTED, "the authority changed"),
        (replace(SETTINGS, profile="shortlived"), WANTED, "the profile changed"),
    ],
)
def test_another_domain_authority_or_profile_makes_it_due(
    settings: Settings, wanted: Wanted, reason: str
) -> None:
    assert due.why(settings, wanted, Record(ISSUED), certificate(), NOW) == reason


def advised(renew_at: dt.datetime | None, issued_at: dt.datetime, digest: str = "digest") -> Record:
    return Record(replace(ISSUED, at=issued_at), None, Advice(NOW, digest, renew_at))


def test_advice_is_followed_once_its_moment_has_come() -> None:
    assert why(record=advised(NOW - HOUR, NOW - 2 * DAY)) == "the authority asks for its renewal"
    assert why(record=advised(NOW + HOUR, NOW - 2 * DAY)) is None
    assert why(record=advised(None, NOW - 2 * DAY)) is None


def test_advice_is_not_followed_twice_a_day_nor_for_another_certificate() -> None:
    assert why(record=advised(NOW - HOUR, NOW - 23 * HOUR)) is None
    assert why(record=advised(NOW - HOUR, NOW - 2 * DAY, "another")) is None


def test_advice_is_asked_once_a_day_and_for_each_new_certificate() -> None:
    def asked(at: dt.datetime, digest: str = "digest") -> bool:
        record = Record(ISSUED, None, Advice(at, digest, None))
        return due.advice_is_due(record, certificate(), NOW)

    assert due.advice_is_due(Record(ISSUED), certificate(), NOW)
    assert [asked(NOW - 23 * HOUR), asked(NOW - DAY), asked(NOW, "old")] == [False, True, True]


def failed(orders: int, at: dt.datetime = NOW) -> Record:
    return Record(None, Failure(at, "no", orders, at, "x"))


@pytest.mark.parametrize(("orders", "hours"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 24), (40, 24)])
def test_pause_doubles_with_each_refused_order_up_to_a_day(orders: int, hours: int) -> None:
    assert due.waits_until(failed(orders), NOW, "x", by_hand=False) == NOW + hours * HOUR


def test_authority_that_was_not_asked_is_asked_at_once() -> None:
    assert due.waits_until(failed(0), NOW, "x", by_hand=False) is None


def test_operator_waits_a_quarter_of_an_hour_only() -> None:
    assert due.waits_until(failed(6), NOW, "x", by_hand=True) == NOW + HOUR / 4
    assert due.waits_until(failed(6, NOW - HOUR / 2), NOW, "x", by_hand=True) is None


def test_clock_that_was_ahead_delays_nothing() -> None:
    assert due.waits_until(failed(1, NOW + 400 * DAY), NOW, "x", by_hand=False) is None


def test_other_settings_or_domains_are_tried_at_once() -> None:
    now_asked = due.asked_for(replace(SETTINGS, external_account=True), WANTED)
    assert now_asked != due.asked_for(SETTINGS, WANTED)
    assert due.asked_for(SETTINGS, Wanted("pay", ("a",))) != due.asked_for(SETTINGS, WANTED)
    assert due.waits_until(failed(6), NOW, now_asked, by_hand=False) is None
