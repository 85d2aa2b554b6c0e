"""Only an empty cluster, or a standby, is ever replaced by a copy."""

from __future__ import annotations

import pytest

from bedstone.core.errors import RefusedError
from bedstone.postgres.replication import Identity
from bedstone.postgres.server import PostgresError
from bedstone.replica import standby
from tests.unit.fixtures.replica import World


@pytest.fixture(autouse=True)
def follows(world: World) -> None:
    world.configure(primary=True)


def test_empty_cluster_gets_a_copy(world: World) -> None:
    world.make()
    assert standby.follow().changed
    assert world.done == ["stop", "renew slot", "copy", "raise settings", "start"]
    assert (world.data / "standby.signal").exists()
    assert [path.name for path in world.data.parent.iterdir()] == ["main"]


def test_second_time_nothing_is_done(world: World) -> None:
    world.make(standby=True)
    assert not standby.follow().changed
    assert world.done == []


def test_standby_that_was_stopped_is_started(world: World) -> None:
    world.make(standby=True)
    world.running = False
    assert standby.follow().changed
    assert world.done == ["start"]


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (Identity("8", 2, in_recovery=False), "no copy of db1's"),
        (Identity("7", 2, in_recovery=True), "was not promoted"),
        (Identity("7", 1, in_recovery=False), "was not promoted"),
    ],
)
def test_data_of_its_own_is_left_as_it_is(world: World, theirs: Identity, words: str) -> None:
    world.make(own=True)
    world.theirs = theirs
    with pytest.raises(RefusedError, match=words):
        standby.follow()
    with pytest.raises(RefusedError, match="data of its own"):
        standby.seed()
    assert world.done == []
    assert not (world.data / "standby.signal").exists()


def test_old_primary_follows_the_new_one_with_its_data(world: World) -> None:
    world.make(own=True)
    world.theirs = Identity("7", 2, in_recovery=False)
    world.slots = {"bedstone_db1": {}}
    assert standby.follow().changed
    assert world.done == ["stop", "start", "drop bedstone_db1"]
    assert (world.data / "base/5/16384").exists()


def test_data_of_its_own_is_put_aside_on_request(world: World) -> None:
    world.make(own=True)
    kept = standby.seed(discard=True)
    assert kept is not None
    (aside,) = [path for path in world.data.parent.iterdir() if path.name != "main"]
    assert str(aside) == kept
    assert (aside / "base/5/16384").exists()


def test_copy_that_fails_leaves_what_was_there(world: World) -> None:
    world.make(standby=True)
    world.copies = False
    with pytest.raises(PostgresError):
        standby.seed()
    assert world.done == ["stop", "renew slot", "copy", "start"]
    assert (world.data / "base/5/16384").exists()
    assert [path.name for path in world.data.parent.iterdir()] == ["main"]


def test_copy_of_a_standby_is_refused(world: World) -> None:
    world.make()
    world.theirs = Identity("7", 1, in_recovery=True)
    with pytest.raises(RefusedError, match="a standby itself"):
        standby.follow()
    assert world.done == []
