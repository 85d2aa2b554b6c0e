"""A standby becomes the primary only when the old one doesn't answer; slots are the declared."""

from __future__ import annotations

import pytest

from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.replica import primary, settings, standby
from tests.unit.fixtures.replica import World

STREAMS = {"bedstone_db2": {"state": "streaming"}}


def test_promotion_is_refused_while_the_old_primary_answers(world: World) -> None:
    world.configure(primary=True)
    world.make(standby=True)
    with pytest.raises(RefusedError, match="db1 still answers") as refused:
        primary.promote()
    assert "`sudo bedstone demote`" in str(refused.value.hint)
    assert world.done == []
    primary.promote(force=True)
    assert world.done == ["promote"]


def test_standby_is_promoted_when_the_old_primary_is_gone(world: World) -> None:
    world.configure(primary=True)
    world.make(standby=True)
    world.answers = False
    text = primary.as_text(settings.load(), primary.promote())
    assert world.done == ["promote"]
    assert "db1 to `postgresql_replica`" in text


def test_promotion_needs_a_standby_that_runs(world: World) -> None:
    world.configure(primary=True)
    world.make(own=True)
    with pytest.raises(RefusedError, match="a primary already"):
        primary.promote(force=True)
    (world.data / "standby.signal").touch()
    world.running = False
    with pytest.raises(BedstoneError, match="doesn't run"):
        primary.promote(force=True)
    assert world.done == []


def test_primary_steps_down_only_with_a_standby_that_streams(world: World) -> None:
    world.configure(primary=False)
    world.make(own=True)
    with pytest.raises(RefusedError, match="db2"):
        standby.step_down()
    assert world.done == []
    world.slots = STREAMS
    standby.step_down()
    assert world.done == ["stop"]
    assert (world.data / "standby.signal").exists()


def test_slots_are_those_of_the_declared_standbys(world: World) -> None:
    world.configure(primary=False)
    world.slots = {"bedstone_gone": {}}
    assert primary.prepare()
    assert world.done == ["make bedstone_db2", "drop bedstone_gone"]
    world.slots = {"bedstone_db2": {}}
    assert not primary.prepare()


def test_without_standbys_no_slot_is_left(world: World) -> None:
    world.configure(primary=False)
    world.slots = {"bedstone_db2": {}}
    assert primary.forget()
    assert world.done == ["drop bedstone_db2"]


def test_server_without_copies_says_how_to_get_one(world: World) -> None:
    world.make(own=True)
    for act in (primary.prepare, primary.promote, standby.follow, standby.seed):
        with pytest.raises(RefusedError, match="neither follows another one nor is followed"):
            act()
