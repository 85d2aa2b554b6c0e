"""The steps from one authority to the next, in their order and out of it."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.pki import rotation

ONE, TWO = {"certificate": "one", "key": "k1"}, {"certificate": "two", "key": "k2"}
FURTHER = {"also_trusted": ["company"], "issued_after": "2026-11-29T12:00:00Z"}


def test_two_authorities_are_trusted_from_the_first_step_to_the_last() -> None:
    before = {**ONE, **FURTHER}
    added = rotation.added(before, TWO)
    assert added == {**before, "next": TWO}
    assert rotation.also_trusted(added) == ["two", "company"]
    signing = rotation.signing(added)
    assert signing == {**TWO, **FURTHER, "previous": ONE}
    assert rotation.also_trusted(signing) == ["one", "company"]
    assert rotation.forgotten(signing) == {**TWO, **FURTHER}
    assert rotation.also_trusted(rotation.forgotten(signing)) == ["company"]


def test_signing_can_be_taken_back() -> None:
    added = rotation.added(ONE, TWO)
    assert rotation.unsigned(rotation.signing(added)) == added


def test_step_that_was_done_changes_nothing() -> None:
    added = rotation.added(ONE, TWO)
    assert rotation.added(added, {"certificate": "three", "key": "k3"}) == added
    signing = rotation.signing(added)
    assert rotation.signing(signing) == signing
    assert rotation.unsigned(added) == added
    assert rotation.forgotten(ONE) == ONE


@pytest.mark.parametrize(
    ("step", "present", "message"),
    [
        (rotation.signing, ONE, "no next authority that the hosts could trust"),
        (rotation.unsigned, ONE, "no previous authority"),
        (rotation.forgotten, {**ONE, "next": TWO}, "does not sign yet"),
        (lambda held: rotation.added(held, ONE), {**ONE, "previous": TWO}, "finish that exchange"),
    ],
)
def test_step_out_of_turn_is_refused(step: Any, present: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step(present)
