"""Whatever kills or fails an upgrade, and whenever: one cluster serves, and it is a whole one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.postgres.debian_cluster import MANUAL
from bedstone.upgrade import journal, major, wal
from tests.unit.fixtures.upgrade import KilledError, World

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings


# What an upgrade does up to the copy.
CALLS = [
    *["before saved", "after saved"] * 2, "page on", "stop apps", "stop 15", "start 15 closed",
    "backup", "count", "stop 15", "before saved", "after saved", "set 15 manual",
    "pg_upgradecluster",
    "pg_upgradecluster, half done",
]  # fmt: skip


def _ask(*, back: bool = False) -> None:
    source, target = (17, 15) if back else (15, 17)
    journal.Journal(source=source, target=target, port=5432, back=back).saved()


def test_an_upgrade_ends_with_the_new_version_serving_and_the_old_one_kept(
    settings: Settings, world: World
) -> None:
    _ask()
    major.carry_out(settings)
    assert world.serving() == 17
    assert world.clusters[15].start == MANUAL
    last = journal.recorded("last")
    assert last is not None
    assert (last["serves"], last["other"]) == (17, 15)


def test_nothing_is_written_between_the_last_backup_and_the_switch(
    settings: Settings, world: World
) -> None:
    _ask()
    major.carry_out(settings)
    calls = world.calls
    assert calls.index("stop apps") < calls.index("start 15 closed") < calls.index("backup")
    assert "start 15" not in calls
    assert calls.index("count") < calls.index("start 17")


# More calls than an upgrade makes; what is beyond its end is an upgrade that nothing happens to.
@pytest.mark.parametrize("end", ["kill", "power cut"])
@pytest.mark.parametrize("at", range(1, 61))
def test_killed_at_any_moment_one_whole_cluster_serves_afterwards(
    settings: Settings, world: World, at: int, end: str
) -> None:
    _ask()
    world.calls.clear()
    world.at = at
    with suppress(KilledError):
        major.carry_out(settings)
    phase = found.phase if (found := journal.load()) else None
    world.revive(power_cut=end == "power cut")
    with suppress(BedstoneError):
        # What the unit does at a boot, and after a kill.
        if end == "power cut" and phase != journal.ASKED:
            major.carry_out(settings)
        else:
            major.settle(settings)
    serving = world.serving()
    if phase in {journal.ASKED, journal.BEGUN}:
        assert serving == 15
        assert set(world.clusters) == {15}, "half a cluster is gone"
    elif phase in {journal.SWITCHED, journal.OPENED}:
        assert serving == 17
    assert world.clusters[serving].rows == 3


@pytest.mark.parametrize("at", range(1, 61))
def test_killed_once_more_while_it_is_undone_it_is_undone_by_the_next(
    settings: Settings, world: World, at: int
) -> None:
    _ask()
    world.calls.clear()
    # In the middle of copying.
    world.at = next(number for number, call in enumerate(CALLS, 1) if call.endswith("half done"))
    with suppress(KilledError):
        major.carry_out(settings)
    world.revive(power_cut=False)
    world.calls.clear()
    world.at = at
    with suppress(KilledError):
        major.settle(settings)
    world.revive(power_cut=False)
    major.settle(settings)
    assert world.serving() == 15
    assert set(world.clusters) == {15}


@pytest.mark.parametrize("at", range(1, 61))
def test_a_failure_at_any_moment_leaves_a_version_that_serves(
    settings: Settings, world: World, at: int
) -> None:
    _ask()
    world.calls.clear()
    world.at, world.kind = at, BedstoneError
    with suppress(BedstoneError):
        major.carry_out(settings)
    # What the unit does when its process has ended.
    world.at = None
    major.settle(settings)
    assert world.serving() in {15, 17}


def test_a_copy_that_lacks_a_row_does_not_serve(settings: Settings, world: World) -> None:
    world.copied_rows = 2
    _ask()
    with pytest.raises(BedstoneError, match="15 serves as before") as caught:
        major.carry_out(settings)
    assert "3 rows before, 2 now" in caught.value.details
    assert world.serving() == 15
    assert set(world.clusters) == {15}


def test_apps_that_are_not_well_with_the_new_version_get_the_old_one_back(
    settings: Settings, world: World
) -> None:
    world.healthy_on = {15}
    _ask()
    with pytest.raises(BedstoneError, match="so 15 serves again"):
        major.carry_out(settings)
    assert world.serving() == 15
    # What workers may have written to it is not thrown away.
    assert world.clusters[17].start == MANUAL


def test_what_visitors_have_written_is_never_left_behind(
    settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask()
    monkeypatch.setattr(wal, "follow", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        major.carry_out(settings)
    assert world.serving() == 17


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", range(1, 41))
def test_a_way_back_that_was_killed_is_gone_to_its_end(
    settings: Settings, world: World, at: int
) -> None:
    _ask()
    major.carry_out(settings)
    _ask(back=True)
    world.calls.clear()
    world.at = at
    with suppress(KilledError):
        major.carry_out(settings)
    found = journal.load()
    world.revive(power_cut=False)
    major.settle(settings)
    asked = found is not None and found.phase == journal.ASKED
    assert world.serving() == (17 if asked else 15)


def test_the_calls_up_to_the_copy_are_as_the_other_tests_think(
    settings: Settings, world: World
) -> None:
    _ask()
    world.calls.clear()
    major.carry_out(settings)
    assert world.calls[: len(CALLS)] == CALLS
    assert len(world.calls) < 60
