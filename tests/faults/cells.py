"""The table: every step of every operation, and what can happen in it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPERATIONS = ("release", "rollback", "restart")
# What can happen, and where in the step.
FAULTS = (
    ("kill", "begin"),
    ("kill", "middle"),
    ("kill", "end"),
    ("power cut", "middle"),
    ("error", "middle"),
)
# An error after the moment at which all is decided.
AFTER_ALL = ("record", "error", "end")


@dataclass(frozen=True)
class Recorded:
    """A step as a run without a fault had it: its name, which of that name, its events."""

    step: str
    number: int
    events: int


@dataclass(frozen=True)
class Cell:
    """One experiment."""

    operation: str
    step: str
    number: int
    how: str
    place: str
    event: int

    @property
    def name(self) -> str:
        """How it is called on the command line and in the summary."""
        step = self.step if self.number == 1 else f"{self.step}{self.number}"
        return f"{self.operation}/{step}/{self.how.replace(' ', '-')}-{self.place}"

    def fault(self, marker: str) -> dict[str, Any]:
        """Return what the driver reads."""
        hows = {"kill": "kill", "power cut": "hang", "error": "raise"}
        return {
            "step": self.step,
            "number": self.number,
            "place": self.place,
            "event": self.event,
            "how": hows[self.how],
            "marker": marker,
        }


def table(recorded: Mapping[str, Sequence[Recorded]], chance: random.Random | None) -> list[Cell]:
    """Return all cells.

    Args:
        recorded: of each operation, the steps it has.
        chance: chooses the event in the middle of a step; without it, it is the middle one.

    """
    found = []
    for operation in OPERATIONS:
        for step in recorded.get(operation, ()):
            faults = list(FAULTS)
            if step.step == AFTER_ALL[0]:
                faults.append(AFTER_ALL[1:])
            for how, wanted in faults:
                place, event = wanted, 0
                if wanted == "middle" and step.events:
                    event = chance.randint(1, step.events) if chance else (step.events + 1) // 2
                elif wanted == "middle" and how == "kill":
                    continue  # nothing happens between its beginning and its end
                elif wanted == "middle":
                    place = "begin"
                found.append(Cell(operation, step.step, step.number, how, place, event))
    return found


def sample(cells: Sequence[Cell], size: int, chance: random.Random) -> list[Cell]:
    """Return some of the cells: as many of each operation and kind of fault as can be."""
    shuffled = list(cells)
    chance.shuffle(shuffled)
    chosen: list[Cell] = []
    while shuffled and len(chosen) < size:
        # The least often chosen kind is next.
        shuffled.sort(key=lambda cell: count(chosen, cell))
        chosen.append(shuffled.pop(0))
    return chosen


def count(chosen: Iterable[Cell], cell: Cell) -> int:
    """Return how often a cell's operation and kind of fault were chosen."""
    return sum((c.operation == cell.operation) + (c.how == cell.how) for c in chosen)
