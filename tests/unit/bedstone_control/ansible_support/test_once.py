"""A check that was made in this run is not made again, and only then."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bedstone_control.ansible_support import once


def variables(**changes: Any) -> dict[str, Any]:
    """Return a host's variables after a check, as Ansible keeps the fact."""
    marked = once.mark("server")
    fact = marked["ansible_bedstone_checked_server"] | changes
    return {"ansible_facts": {"bedstone_checked_server": fact}}


def test_check_of_this_run_counts() -> None:
    assert once.done(variables(), "server")


def test_other_check_does_not_count() -> None:
    assert not once.done(variables(), "settings")
    assert not once.done({}, "server")


@pytest.mark.parametrize(
    "change", [{"run": 1_000_000_000}, {"time": time.time() - 86400}, {"time": time.time() + 3600}]
)
def test_check_of_another_run_does_not_count(change: dict[str, float]) -> None:
    assert not once.done(variables(**change), "server")
