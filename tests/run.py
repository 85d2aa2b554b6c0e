"""Run every stage of the test suite and say where the time went.

    .venv/bin/python tests/run.py [STAGE...] [--jobs N]

Stages: ``check`` (lint, types, unit tests), ``app`` (the reference app against a real
PostgreSQL), ``integration`` (the host program against a real PostgreSQL, Django and Alembic),
one ``molecule-ROLE`` for every scenario below ``molecule/``, ``faults`` (releases killed at
random places; BEDSTONE_FAULT_SEED repeats a run), ``drill`` (a server burns down while people
write, and is rebuilt), ``newcomer`` (`make setup && make check` in a fresh clone on a bare Debian,
which then provisions another one with the newest ansible) and ``demo`` (the README's first command,
end to end, and what a test server does to the kernel of this machine). Each stage's output goes to
a file of its own; a failing stage's last lines are shown. A deprecation warning of ansible-core
fails its stage. Exit code 0 only when every stage passed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "test-logs"
SHOWN_LINES = 120
# A hung stage must not eat the time of the others; the slowest takes a fraction of it.
STAGE_LIMIT_SECONDS = 2700
# ansible-core's announcement of what a later release removes.
DEPRECATION = "DEPRECATION WARNING"
# The words of pytest, Ansible and make that say what it was, wherever Molecule puts them.
_TELLING = re.compile(
    r"\bE {3,}\S|\bFAILED\b|Error:|\bfatal: |\bstopped: |is not idempotent"
    rf"|{DEPRECATION}"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TOLD_LINES = 12
TOLD_WIDTH = 200
# The longest first, so that the two workers end together.
LONG_SCENARIOS = (
    "release", "pgbackrest", "backup", "app", "upgrade", "postgresql", "base", "site",
)  # fmt: skip
# Of the whole table (`make test-faults`), a sample that is another one each time.
FAULT_CELLS = 6
# With the reason of whatever was skipped.
E2E = (".venv/bin/pytest", "-v", "-rs")
# Long enough that some of what people write is archived, and some isn't yet.
DRILL_SECONDS = 90


@dataclass(frozen=True)
class Stage:
    """One command of the suite."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    stage: Stage
    seconds: float
    returncode: int
    log: Path


def scenarios() -> list[str]:
    """Return the names of all Molecule scenarios, from the directories that are there."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def all_stages() -> list[Stage]:
    """Return every stage; the long ones first, so that the workers end together."""
    longest, *others = [
        Stage(f"molecule-{name}", (".venv/bin/molecule", "test", "-s", name))
        for name in sorted(scenarios(), key=_place)
    ]
    return [
        longest,
        Stage("check", ("make", "check")),
        Stage("demo", (*E2E, "tests/e2e/test_machine.py", "tests/e2e/test_demo.py")),
        Stage("newcomer", (*E2E, "tests/e2e/test_newcomer.py")),
        Stage("faults", (".venv/bin/python", "-m", "tests.faults", f"--sample={FAULT_CELLS}")),
        Stage("drill", (".venv/bin/python", "-m", "tests.drill", f"--seconds={DRILL_SECONDS}")),
        *others,
        Stage("app", ("make", "-C", "app", "check")),
        Stage("integration", (".venv/bin/pytest", "-q", "tests/integration")),
    ]


def _place(scenario: str) -> tuple[int, str]:
    found = scenario in LONG_SCENARIOS
    return (LONG_SCENARIOS.index(scenario) if found else len(LONG_SCENARIOS), scenario)


def run_stage(stage: Stage) -> Outcome:
    """Run one stage with its output in a file; a stage over its limit counts as failed."""
    log = LOGS / f"{stage.name}.log"
    started = time.monotonic()
    print(f"--> {stage.name}", flush=True)
    with log.open("wb") as output:
        try:
            returncode = subprocess.run(
                stage.command,
                cwd=ROOT,
                env=os.environ | {"PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=STAGE_LIMIT_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            output.write(f"\nstopped: over {STAGE_LIMIT_SECONDS} s\n".encode())
            returncode = 124
    if returncode == 0 and DEPRECATION in log.read_text(errors="replace"):
        returncode = 1
    return Outcome(stage, time.monotonic() - started, returncode, log)


def report(outcome: Outcome) -> None:
    """Print how a stage ended, with the end of its output when it failed."""
    verdict = "ok" if outcome.returncode == 0 else f"FAILED ({outcome.returncode})"
    print(f"<-- {outcome.stage.name}: {verdict}, {outcome.seconds:.0f} s", flush=True)
    if outcome.returncode != 0:
        lines = outcome.log.read_text(errors="replace").splitlines()
        print(*(f"    {line}" for line in lines[-SHOWN_LINES:]), sep="\n")
        print(f"    whole output: {outcome.log.relative_to(ROOT)}", flush=True)


def telling(log: Path) -> list[str]:
    """Return the lines of a failed stage's output that say what it was, cut to a screen's width."""
    text = log.read_text(errors="replace")
    lines = [line.lstrip(" │-'") for line in _COLOUR.sub("", text).splitlines()]
    found = [line for line in lines if _TELLING.search(line)] or lines
    # Each once: Molecule shows a failed task's words several times.
    told = list(dict.fromkeys(line[:TOLD_WIDTH] for line in found))
    return told[-TOLD_LINES:]


def table(outcomes: Iterable[Outcome], total: float) -> str:
    """Return where the time went, the slowest stage first."""
    rows = sorted(outcomes, key=lambda outcome: -outcome.seconds)
    lines = [f"{'stage':<24}{'seconds':>9}  result"]
    lines += [
        f"{row.stage.name:<24}{row.seconds:>9.0f}  {'ok' if row.returncode == 0 else 'FAILED'}"
        for row in rows
    ]
    lines.append(f"{'wall clock':<24}{total:>9.0f}")
    return "\n".join(lines)


def main() -> int:
    """Run the chosen stages, at most ``--jobs`` at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stages", nargs="*", help="names of stages; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time (default: 2)")
    arguments = parser.parse_args()
    known = {stage.name: stage for stage in all_stages()}
    unknown = [name for name in arguments.stages if name not in known]
    if unknown:
        parser.error(f"no such stage: {', '.join(unknown)}; there are: {', '.join(known)}")
    chosen = [known[name] for name in arguments.stages] or list(known.values())

    LOGS.mkdir(parents=True, exist_ok=True)
    # What a killed run left would only take memory from this one.
    subprocess.run(["python3", "-m", "testbed", "prune"], cwd=ROOT, check=True)
    started = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        for future in as_completed([pool.submit(run_stage, stage) for stage in chosen]):
            outcomes.append(future.result())
            report(outcomes[-1])
    failed = [outcome for outcome in outcomes if outcome.returncode != 0]
    print()
    print(table(outcomes, time.monotonic() - started))
    print()
    for outcome in failed:
        # Again at the end: who sees only the last lines sees what it was.
        print(f"{outcome.stage.name}:", *(f"    {line}" for line in telling(outcome.log)), sep="\n")
    print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
