from __future__ import annotations

import datetime as dt

import pytest
from pydantic import ValidationError

from bedstone_control.settings.edge import SecurityTxt


def days(number: int) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(expires: str) -> SecurityTxt:
    return SecurityTxt(contact=["mailto:security@example.com"], expires=expires)


def test_moment_within_a_year_is_taken() -> None:
    assert text(days(180)).expires.endswith("Z")


@pytest.mark.parametrize(
    ("expires", "message"),
    [
        (days(-1), "expired on"),
        (days(400), "more than a year ahead"),
        ("2027-01-01", "moment with its time zone"),
        ("next year", "moment with its time zone"),
    ],
    ids=["past", "far ahead", "without a zone", "no moment"],
)
def test_expiry_that_a_reader_has_to_ignore_is_refused(expires: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        text(expires)


def test_contact_is_a_uri() -> None:
    with pytest.raises(ValidationError, match="begins with mailto:"):
        SecurityTxt(contact=["security@example.com"], expires=days(30))
