"""What was seen at the destinations, as the ledger keeps it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bedstone.ledger import database, observations
from bedstone.ledger.kinds import SERVER

if TYPE_CHECKING:
    from bedstone.ledger.observations import Arrival

MONDAY = datetime(2026, 11, 16, 2, 0, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("root")


def seen() -> Arrival:
    with database.opened() as connection:
        (found,) = observations.last_seen(
            connection, destination="offsite", app="payments", kind="dump"
        )
    return found


def record(problem: str | None = None) -> None:
    observations.record(
        "offsite",
        "payments",
        "dump",
        newest="backup_20261116_020000",
        newest_at=MONDAY,
        size=1000,
        problem=problem,
    )


def test_what_was_seen_is_kept() -> None:
    record()

    found = seen()
    assert (found.newest, found.newest_at) == ("backup_20261116_020000", MONDAY)
    assert found.bytes == 1000
    assert found.checked_at is not None
    assert found.problem is None
    assert not found.unseen


def test_what_nobody_could_look_at_keeps_what_was_seen_before() -> None:
    record()
    before = seen().checked_at

    observations.unseen("offsite", "payments", "dump", "the server doesn't answer")

    found = seen()
    assert found.newest == "backup_20261116_020000"
    assert found.checked_at == before
    assert found.problem == "the server doesn't answer"
    assert found.unseen


def test_the_first_time_nobody_could_look_is_kept() -> None:
    observations.unseen("offsite", "payments", "dump", "the server doesn't answer")
    first = seen()

    observations.unseen("offsite", "payments", "dump", "the server refuses the key")

    assert seen().problem_since == first.problem_since
    assert seen().problem == "the server refuses the key"
    assert seen().checked_at is None
    assert seen().unseen


def test_a_problem_of_what_is_there_is_as_old_as_its_first_sight() -> None:
    record("damaged")
    first = seen()

    record("damaged")

    assert seen().problem_since == first.problem_since
    assert not seen().unseen


def test_a_problem_seen_after_a_time_without_sight_is_new() -> None:
    observations.unseen("offsite", "payments", "dump", "the server doesn't answer")
    first = seen()

    record("damaged")

    assert seen().problem_since != first.problem_since
    assert not seen().unseen


def test_what_is_well_again_has_no_problem() -> None:
    record("damaged")
    record()

    assert (seen().problem, seen().problem_since) == (None, None)


def test_all_of_a_server_is_returned_in_order() -> None:
    record()
    observations.record("local", "payments", "dump", newest=None, newest_at=None)
    observations.record("offsite", SERVER, "wal", newest="x", newest_at=MONDAY)

    with database.opened() as connection:
        found = observations.last_seen(connection)
    assert [(entry.destination, entry.app, entry.kind) for entry in found] == [
        ("local", "payments", "dump"),
        ("offsite", "", "wal"),
        ("offsite", "payments", "dump"),
    ]


def test_what_is_kept_there_no_longer_is_forgotten() -> None:
    record()

    observations.forget("offsite", "payments", "dump")

    with database.opened() as connection:
        assert observations.last_seen(connection) == []
