"""Run every stage of the test suite and say where the time went.

    .venv/bin/python -m tests.run [STAGE...] [--all] [--jobs N] [--within MINUTES]

Stages: ``check`` (lint, types, unit tests), ``app`` (the reference app against a real PostgreSQL),
``integration`` (the host program against a real PostgreSQL, Django and Alembic; runs of
ansible-playbook), one ``molecule-ROLE`` for every scenario below ``molecule/``, ``faults``
(releases killed at random places; BEDSTONE_FAULT_SEED repeats a run), ``seeds`` (servers with two
seed systems, others for another program; BEDSTONE_SEED_SERVERS="kore srq-hpn" chooses them),
``drill`` (a server burns down while people write, and is rebuilt), ``newcomer`` (`make setup &&
make check` in a fresh clone on a bare Debian, which then provisions another one with the newest
ansible) and ``demo`` (the README's first command, end to end, and what a test server does to the
kernel of this machine). Of ``drill``, ``newcomer``, ``molecule-upgrade`` and
``molecule-postgresql_replica`` a run takes one, another one for another program, unless ``--all``
asks for all or they are named. That one and the scenarios of roles that a server has only when
asked for come last, in an order that turns with the program, and so does one of two groups of long
scenarios. What would not end within the minutes of a run is left out and named. ``--all`` and
named stages know no such limit.
Each stage's output goes to a file of its own, each line with its second; a failing stage's last
lines are shown. A deprecation warning of ansible-core fails its stage. The table at the end says
where the seconds went: Molecule's actions, dpkg ("apt"), and the CPU seconds of the stage's
programs on this machine ("cpu-here") and on its servers ("cpu-there"). Exit code 0 only when every
stage passed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from testbed.usage import VARIABLE as USAGE
from tests import stage_times
from tests.rotation import (
    SEED_SERVERS_VARIABLE,
    STORIES,
    chosen_seed_servers,
    last,
    program_seed,
    story,
)
from tests.seeds.systems import SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "test-logs"
SHOWN_LINES = 120
# A hung stage must not eat the time of the others; the slowest takes a fraction of it.
STAGE_LIMIT_SECONDS = 3600
OUTPUT_SECONDS = 10
# On a slow day all stages took 81. Such a run ends with what every change has to pass; CI cuts a
# run off after 90.
WITHIN_MINUTES = 78
# Three servers with PostgreSQL, Docker and an app each use less.
MIB_OF_A_STAGE = 4096
# A server takes 6 of the kernel's 128 inotify instances, and a stage has three at most.
MOST_JOBS = 6
# ansible-core's announcement of what a later release removes.
DEPRECATION = "DEPRECATION WARNING"
# The words of pytest, Ansible and make that say what it was, wherever Molecule puts them.
_TELLING = re.compile(
    r"\bE {3,}\S|\bFAILED\b|Error:|\bfatal: |\bstopped: |is not idempotent"
    rf"|{DEPRECATION}"
)
TOLD_LINES = 12
TOLD_WIDTH = 200
# Seconds of each stage, three at a time on two cores; the longest start first, so that the
# workers end together. Measured on 2026-11-30 (seeds: internal-payment and srq-hpn; drill, newcomer
# and the replica on another day, and scaled); a stage that is not here starts before the shortest.
SECONDS = {
    "molecule-release": 2440, "molecule-pgbackrest": 1655, "seeds": 1228, "molecule-backup": 1144,
    "molecule-app": 991, "molecule-base": 819, "molecule-firewall": 733, "drill": 700,
    "molecule-site": 651, "molecule-postgresql": 541, "molecule-postgresql_replica": 520,
    "molecule-upgrade": 472, "integration": 466, "newcomer": 400, "demo": 386,
    "molecule-nginx": 346, "check": 346, "molecule-docker": 249, "faults": 230,
    "molecule-metrics": 226, "molecule-acme": 218, "molecule-prometheus": 209,
    "molecule-rabbitmq": 173, "molecule-logs": 162, "molecule-redis": 157,
    "molecule-pgbouncer": 156, "molecule-ca": 154, "molecule-host_program": 114,
    "molecule-converge": 96, "molecule-preflight": 72, "app": 50,
}  # fmt: skip
SECONDS_OF_A_NEW_STAGE = 100
# Of the whole table (`make test-faults`), a sample that is another one each time.
FAULT_CELLS = 4
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
    used: stage_times.Used


def scenarios() -> list[str]:
    """Return the names of all Molecule scenarios, from the directories that are there."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def all_stages() -> list[Stage]:
    """Return every stage, the longest first.

    Raises:
        ValueError: the environment names a server with seed systems that there isn't.

    """
    stages = [
        Stage("check", ("make", "check")),
        Stage("demo", (*E2E, "tests/e2e/test_machine.py", "tests/e2e/test_demo.py")),
        Stage("newcomer", (*E2E, "tests/e2e/test_newcomer.py")),
        Stage("faults", (".venv/bin/python", "-m", "tests.faults", f"--sample={FAULT_CELLS}")),
        Stage("seeds", (*E2E, "tests/seeds", "-k", " or ".join(chosen_seed_servers(SERVERS)))),
        Stage("drill", (".venv/bin/python", "-m", "tests.drill", f"--seconds={DRILL_SECONDS}")),
        Stage("app", ("make", "-C", "app", "check")),
        Stage("integration", (".venv/bin/pytest", "-q", "tests/integration")),
    ]
    stages += [
        Stage(f"molecule-{name}", (".venv/bin/molecule", "test", "-s", name))
        for name in scenarios()
    ]
    return sorted(stages, key=lambda stage: -SECONDS.get(stage.name, SECONDS_OF_A_NEW_STAGE))


def run_stage(stage: Stage) -> Outcome:
    """Run one stage with its output in a file; a stage over its limit counts as failed."""
    log = LOGS / f"{stage.name}.log"
    usage = LOGS / f"{stage.name}.usage"
    usage.write_text("")
    started = time.monotonic()
    print(f"--> {stage.name}", flush=True)
    process = subprocess.Popen(
        stage.command,
        cwd=ROOT,
        env=os.environ
        | {"PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}", USAGE: str(usage)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    stamping = threading.Thread(target=_stamp, args=(process.stdout, log, started), daemon=True)
    stamping.start()
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        process.kill()

    limit = threading.Timer(STAGE_LIMIT_SECONDS, stop)
    limit.start()
    # Not process.wait(): the kernel tells the CPU seconds of this stage only here.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    limit.cancel()
    # A program that a stage left running may hold the pipe.
    stamping.join(timeout=OUTPUT_SECONDS)
    returncode = process.returncode
    if stopped.is_set():
        with log.open("a") as output:
            output.write(f"\nstopped: over {STAGE_LIMIT_SECONDS} s\n")
        returncode = 124
    if returncode == 0 and DEPRECATION in log.read_text(errors="replace"):
        returncode = 1
    cpu = used.ru_utime + used.ru_stime
    took = time.monotonic() - started
    return Outcome(stage, took, returncode, log, stage_times.read(log, usage, cpu))


def _stamp(output: IO[bytes], log: Path, started: float) -> None:
    with output, log.open("wb", buffering=0) as file:
        for line in output:
            file.write(stage_times.stamped(time.monotonic() - started, line))


def in_turn(stages: list[Stage], seed: int) -> tuple[list[Stage], list[Stage]]:
    """Return the stages that every run of a program has, and those it ends with, in order."""
    by_name = {stage.name: stage for stage in stages}
    late = last(seed)
    always = [stage for stage in stages if stage.name not in {*STORIES, *late}]
    return always, [by_name[name] for name in late]


def expected_seconds(stage: Stage, outcomes: Sequence[Outcome]) -> float:
    """Return how long a stage will take on this machine, by what the others took.

    Args:
        stage: one that hasn't begun.
        outcomes: of those that ended; on a machine that is faster than the table's they count for
            nothing.

    """
    known = [outcome for outcome in outcomes if outcome.stage.name in SECONDS]
    took = sum(outcome.seconds for outcome in known)
    usual = sum(SECONDS[outcome.stage.name] for outcome in known)
    slowness = max(1.0, took / usual) if usual else 1.0
    return slowness * SECONDS.get(stage.name, SECONDS_OF_A_NEW_STAGE)


def run_all(
    stages: Sequence[Stage], late: Sequence[Stage], jobs: int, minutes: float
) -> list[Outcome]:
    """Run stages side by side and report each, then the late ones for which there is time.

    Args:
        stages: all of these run.
        late: those of these run that end within the time, as far as one can tell.
        jobs: stages at a time.
        minutes: the time, from now on.

    """
    end = time.monotonic() + minutes * 60
    outcomes: list[Outcome] = []

    def run_late(stage: Stage) -> Outcome | None:
        has_time = time.monotonic() + expected_seconds(stage, tuple(outcomes)) < end
        return run_stage(stage) if has_time else None

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures: list[Future[Outcome | None]] = [pool.submit(run_stage, each) for each in stages]
        futures += [pool.submit(run_late, each) for each in late]
        for future in as_completed(futures):
            outcome = future.result()
            if outcome is not None:
                outcomes.append(outcome)
                report(outcome)
    return outcomes


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
    text = stage_times.COLOUR.sub("", log.read_text(errors="replace"))
    lines = [stage_times.unstamped(line).lstrip(" │-'") for line in text.splitlines()]
    found = [line for line in lines if _TELLING.search(line)] or lines
    # Each once: Molecule shows a failed task's words several times.
    told = list(dict.fromkeys(line[:TOLD_WIDTH] for line in found))
    return told[-TOLD_LINES:]


def default_jobs(cores: int, available_mib: int) -> int:
    """Return how many stages run at a time: three on two cores.

    A stage keeps about two thirds of a core busy, and waits for the rest of its time.
    """
    return max(1, min(cores * 3 // 2, available_mib // MIB_OF_A_STAGE, MOST_JOBS))


def prune() -> None:
    """Remove what a killed run left: it would only take memory from this one."""
    subprocess.run(["python3", "-m", "testbed", "prune"], cwd=ROOT, check=True)


def main() -> int:
    """Run the chosen stages, at most ``--jobs`` at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stages", nargs="*", help="names of stages; default: all but some stories")
    parser.add_argument("--all", action="store_true", help=f"all of {', '.join(STORIES)}, too")
    jobs = default_jobs(len(os.sched_getaffinity(0)), stage_times.available_mib())
    parser.add_argument(
        "--jobs", type=int, default=jobs, help=f"stages at a time (default on this machine: {jobs})"
    )
    parser.add_argument(
        "--within", type=float, default=WITHIN_MINUTES, metavar="MINUTES",
        help=f"what comes last is left out when it would end later (default {WITHIN_MINUTES})",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        known = {stage.name: stage for stage in all_stages()}
    except ValueError as error:
        parser.error(str(error))
    unknown = [name for name in arguments.stages if name not in known]
    if unknown:
        parser.error(f"no such stage: {', '.join(unknown)}; there are: {', '.join(known)}")
    chosen, late = [known[name] for name in arguments.stages], list[Stage]()
    if arguments.all:
        chosen = list(known.values())
    elif not chosen:
        chosen, late = in_turn(list(known.values()), program_seed())
        told = story(program_seed())
        others = [name for name in STORIES if name != told]
        print(f"this time {told}; make test-all has {', '.join(others)}, too", flush=True)
    if known["seeds"] in chosen:
        names = " ".join(chosen_seed_servers(SERVERS))
        print(f'seeds: {names} (the same again: {SEED_SERVERS_VARIABLE}="{names}")', flush=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    prune()
    started = time.monotonic()
    machine = stage_times.Machine()
    outcomes = run_all(chosen, late, arguments.jobs, arguments.within)
    failed = [outcome for outcome in outcomes if outcome.returncode != 0]
    print()
    seconds = time.monotonic() - started
    rows = sorted(
        ((o.stage.name, o.seconds, o.used) for o in outcomes), key=lambda row: row[1], reverse=True
    )
    print(stage_times.table(rows), end="\n\n")
    print("slowest tests", stage_times.slowest(rows), sep="\n", end="\n\n")
    print(f"wall clock: {seconds:.0f} s, stages at a time: {arguments.jobs}")
    print(machine.stop(seconds), end="\n\n")
    for outcome in failed:
        # Again at the end: who sees only the last lines sees what it was.
        print(f"{outcome.stage.name}:", *(f"    {line}" for line in telling(outcome.log)), sep="\n")
    ran = {outcome.stage.name for outcome in outcomes}
    left_out = [stage.name for stage in late if stage.name not in ran]
    if left_out:
        print(f"no time within {arguments.within:g} minutes: {', '.join(left_out)}")
    passed = f"{len(outcomes) - len(failed)} passed, {len(failed)} failed"
    print(f"{passed}, {len(left_out)} left out" if left_out else passed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
