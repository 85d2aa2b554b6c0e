"""The table of the fault tests, and the samples taken of it."""

from __future__ import annotations

import random

from tests.faults import cells
from tests.faults.cells import Recorded

RECORDED = {
    "release": [Recorded("prepare", 1, 4), Recorded("plan", 1, 0), Recorded("record", 1, 0)],
    "rollback": [Recorded("reverse", 1, 0), Recorded("reverse", 2, 2)],
    "restart": [Recorded("start", 1, 9)],
}


def test_a_step_without_events_has_no_middle_to_be_killed_in() -> None:
    found = {cell.name for cell in cells.table(RECORDED, None)}
    assert "release/prepare/kill-middle" in found
    assert "release/plan/kill-middle" not in found
    assert "release/plan/power-cut-begin" in found
    assert "release/record/error-end" in found
    assert {"rollback/reverse/kill-end", "rollback/reverse2/kill-end"} <= found


def test_the_middle_is_within_the_step() -> None:
    for chance in (None, random.Random(1)):
        for cell in cells.table(RECORDED, chance):
            events = {(s.step, s.number): s.events for steps in RECORDED.values() for s in steps}
            if cell.place == "middle":
                assert 1 <= cell.event <= events[cell.step, cell.number]


def test_a_seed_gives_the_same_sample_and_all_operations() -> None:
    def taken(seed: str) -> list[str]:
        chance = random.Random(seed)
        return [cell.name for cell in cells.sample(cells.table(RECORDED, chance), 8, chance)]

    assert taken("7") == taken("7")
    assert len(set(taken("7"))) == 8
    assert {name.partition("/")[0] for name in taken("7")} == set(cells.OPERATIONS)
    hows = {cell.how for cell in cells.table(RECORDED, None)}
    chosen = cells.sample(cells.table(RECORDED, None), 8, random.Random("7"))
    assert {cell.how for cell in chosen} == hows
