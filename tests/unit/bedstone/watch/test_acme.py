from __future__ import annotations

import datetime as dt

from bedstone.acme.record import Failure
from bedstone.acme.state import State
from bedstone.core.x509 import Certificate
from bedstone.watch import acme

NOW = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
FAILURE = Failure(NOW, "pay.example.com has no address in DNS.", 0, NOW - 2 * DAY)


def told(used: float | None, failure: Failure | None) -> list[tuple[str, str]]:
    found = None
    if used is not None:
        start = NOW - used * 90 * DAY
        found = Certificate("", start, start + 90 * DAY, "x")
    entry = State("pay", ("pay.example.com",), found, failure, None)
    return [(alarm.severity, alarm.words) for alarm in acme.judge([entry], NOW)]


def test_all_well_is_silent() -> None:
    assert told(0.1, None) == []


def test_site_without_its_certificate_is_red_with_the_reason() -> None:
    ((severity, words),) = told(None, FAILURE)
    assert severity == "red"
    assert words == (
        "pay has no certificate by ACME and serves one of Bedstone's authority, for 2 days:"
        " pay.example.com has no address in DNS"
    )


def test_renewal_that_fails_is_a_warning_until_the_end_is_near() -> None:
    assert [severity for severity, _ in told(0.7, FAILURE)] == ["warning"]
    assert [severity for severity, _ in told(0.9, FAILURE)] == ["red"]
