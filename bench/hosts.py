"""Compare a run of site.yml without changes on one host with the same on 2, 4 and 8.

The first host has every group of the topology. The others have none: they get what every host gets
(roles base, host_program, ca), so that a machine with few cores can hold eight of them. The servers
share the controller's cores, unlike a user's: their own part of the work is in the seconds. The CPU
seconds are the controller's alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.profile import Task

NUMBERS = (1, 2, 4, 8)
# What the design aims at.
RATIO = 2.0
ONE_HOST_SECONDS = 6.0


@dataclass(frozen=True)
class Run:
    """The run that took the middle time.

    Attributes:
        seconds: from its begin to its end.
        cpu: CPU seconds of the controller, its workers and ssh included.
        tasks: its tasks, the slowest first.

    """

    seconds: float
    cpu: float
    tasks: Sequence[Task] = ()


def middle(runs: Sequence[Run]) -> Run:
    """Return the run that took the middle time of an odd number of them."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def verdict(number: int, run: Run, one: Run) -> str:
    """Return how a run compares with its aim, empty when it has none."""
    if number == 1:
        met = run.seconds < ONE_HOST_SECONDS
        return f"aim under {ONE_HOST_SECONDS:.0f} s: {'met' if met else 'MISSED'}"
    ratio = run.seconds / one.seconds
    if number < max(NUMBERS):
        return f"{ratio:.2f} x one"
    return f"{ratio:.2f} x one; aim {RATIO:.0f}: {'met' if ratio <= RATIO else 'MISSED'}"


def rows(results: Mapping[int, Run]) -> list[str]:
    """Return the table."""
    one = results[1]
    return [
        "| hosts | seconds | compared | CPU seconds of the controller | compared |",
        "|---:|---:|---|---:|---:|",
        *(
            f"| {number} | {run.seconds:.1f} | {verdict(number, run, one)} | {run.cpu:.1f} "
            f"| {run.cpu / one.cpu:.2f} x |"
            for number, run in sorted(results.items())
        ),
    ]
