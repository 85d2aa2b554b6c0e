"""`make test-faults`: an operation dies at every place, and everything agrees afterwards.

    python -m tests.faults --sample 8 --seed 17     # some cells of the table, chosen by the seed
    python -m tests.faults --only release/start     # those whose name begins so
    python -m tests.faults                          # all of it

A cell: a release, rollback or restart is killed, cut from power or fails at one place of one step.
Afterwards (settled by systemd's ExecStopPost, or by the boot) the app answers with one release on
every path; ledger, slot files, units, nginx, static files and containers agree on it; nothing
counts as running, and the next release works. Kills happen under load and cost no request.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import dataclass, field

from testbed.errors import TestbedError
from testbed.shell import say
from tests.faults import cells
from tests.faults.cells import Cell
from tests.faults.server import BOOT_SECONDS, Target, boot, clear
from tests.rotation import program_seed

SEED_VARIABLE = "BEDSTONE_FAULT_SEED"


@dataclass
class Verdict:
    """What came of a cell."""

    cell: Cell
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)


def try_cell(target: Target, cell: Cell) -> Verdict:
    """Let a cell's fault happen, look, and release once more."""
    verdict = Verdict(cell)
    began = time.monotonic()
    try:
        if cell.how == "power cut":
            target.cut_power(cell)
            look = target.settled(BOOT_SECONDS)
        else:
            with target.load() as load:
                target.strike(cell)
                look = target.look()
            verdict.problems += [f"request: {failure}" for failure in load["failures"][:5]]
        verdict.problems += look["problems"]
        verdict.litter = look["litter"]
        target.release()
        verdict.problems += [f"after a release: {line}" for line in target.look()["problems"]]
    except TestbedError as error:
        verdict.problems.append(error.message)
    verdict.seconds = time.monotonic() - began
    return verdict


def summary(verdicts: list[Verdict]) -> str:
    """Return the table: operations and steps down, kinds of fault across."""
    columns = list(dict.fromkeys(f"{v.cell.how} {v.cell.place}" for v in verdicts))
    rows: dict[str, dict[str, str]] = {}
    for verdict in verdicts:
        cell = verdict.cell
        step = cell.name.rpartition("/")[0]
        mark = "FAILED" if verdict.problems else "ok"
        rows.setdefault(step, {})[f"{cell.how} {cell.place}"] = mark
    width = max(map(len, rows), default=0) + 2
    lines = ["".ljust(width) + "".join(column.ljust(19) for column in columns)]
    lines += [
        step.ljust(width) + "".join(marks.get(column, "-").ljust(19) for column in columns)
        for step, marks in rows.items()
    ]
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    """Try the chosen cells; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--seed", default=os.environ.get(SEED_VARIABLE) or None)
    parser.add_argument("--sample", type=int, help="so many cells, chosen by the seed")
    parser.add_argument("--only", default="", help="cells whose name begins so")
    parser.add_argument("--keep", action="store_true", help="leave the server up")
    parser.add_argument("--kept", action="store_true", help="use the server that --keep left")
    arguments = parser.parse_args()
    seed = str(arguments.seed or program_seed())
    print(f"seed: {seed} (the same again: {SEED_VARIABLE}={seed})", flush=True)
    chance = random.Random(seed)
    verdicts: list[Verdict] = []
    try:
        target = boot(kept=arguments.kept)
        target.release()
        recorded = {operation: target.record(operation) for operation in cells.OPERATIONS}
        found = cells.table(recorded, chance if arguments.sample or arguments.seed else None)
        found = [cell for cell in found if cell.name.startswith(arguments.only)]
        if arguments.sample:
            found = cells.sample(found, arguments.sample, chance)
        for cell in found:
            verdict = try_cell(target, cell)
            verdicts.append(verdict)
            mark = "FAILED" if verdict.problems else "ok"
            print(f"{mark:7} {verdict.seconds:5.0f} s  {cell.name} (event {cell.event})")
            for line in [*verdict.problems, *(f"left: {path}" for path in verdict.litter)]:
                print(f"          {line}")
            sys.stdout.flush()
    except TestbedError as error:
        say(f"error: {error.message}")
        return 1
    finally:
        if not arguments.keep:
            clear()
    print(f"\n{summary(verdicts)}\n")
    failed = [verdict.cell.name for verdict in verdicts if verdict.problems]
    print(f"{len(verdicts) - len(failed)} cells ok, {len(failed)} failed; seed {seed}")
    return 1 if failed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
