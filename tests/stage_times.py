"""Read from stamped logs where the time of a stage went, and what it used.

Each line of a log begins with the seconds since the start of its stage. Molecule announces its
actions, and pytest prints its slowest tests. The testbed writes what a server used when it is
removed (`testbed.usage`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STAMP = re.compile(r"^ *(\d+\.\d) ")
ACTION = re.compile(r"➜ (\w+): (Executing|Executed)")
# Ansible folds a long line, so the test's name may be on the next one.
TEST = re.compile(r"(\d+\.\d+)s (?:call|setup|teardown) +(?:\n *\d+\.\d +│? *)?(\S+)", re.MULTILINE)
# The check run is Molecule's side_effect; what is not Molecule's is one column.
COLUMNS = {
    "create": ("create",),
    "prepare": ("prepare",),
    "converge": ("converge",),
    "again": ("idempotence",),
    "check": ("side_effect",),
    "verify": ("verify",),
    "destroy": ("destroy",),
}
SLOWEST_TESTS = 10
SAMPLE_SECONDS = 2.0
CLOCK_TICKS = 100


def stamped(seconds: float, line: bytes) -> bytes:
    """Return a line of output with the second in which it came."""
    return f"{seconds:7.1f} ".encode() + line


def unstamped(line: str) -> str:
    """Return a log's line without its time."""
    return STAMP.sub("", line, count=1)


def actions(lines: Iterable[str]) -> dict[str, float]:
    """Return the seconds of each of Molecule's actions; `destroy` runs twice and is added up."""
    found: dict[str, float] = {}
    started: dict[str, float] = {}
    for line in lines:
        stamp, action = STAMP.match(line), ACTION.search(line)
        if not stamp or not action:
            continue
        name, at = action[1], float(stamp[1])
        if action[2] == "Executing":
            started[name] = at
        elif name in started:
            found[name] = found.get(name, 0.0) + at - started.pop(name)
    return found


def slow_tests(text: str) -> list[tuple[float, str]]:
    """Return what pytest listed as its slowest, as (seconds, test)."""
    return [(float(seconds), test) for seconds, test in TEST.findall(text)]


@dataclass(frozen=True)
class Used:
    """The use of a stage: Molecule's actions in seconds, CPU seconds here and on its servers."""

    actions: dict[str, float] = field(default_factory=dict)
    tests: tuple[tuple[float, str], ...] = ()
    controller_cpu: float = 0.0
    server_cpu: float = 0.0
    apt_seconds: float = 0.0


def read(log: Path, usage: Path, controller_cpu: float) -> Used:
    """Return what a stage used, from its log and from what its servers left."""
    text = COLOUR.sub("", log.read_text(errors="replace"))
    servers = [json.loads(line) for line in usage.read_text().splitlines()]
    return Used(
        actions(text.splitlines()),
        tuple(slow_tests(text)),
        controller_cpu,
        sum(server["cpu_seconds"] for server in servers),
        sum(server["apt_seconds"] for server in servers),
    )


def table(rows: list[tuple[str, float, Used]]) -> str:
    """Return where each stage's seconds went; a row is (stage, seconds, what it used)."""
    heads = [*COLUMNS, "apt", "cpu-here", "cpu-there"]
    lines = [f"{'stage':<22}{'seconds':>8}" + "".join(f"{head:>10}" for head in heads)]
    total = [0.0] * (len(heads) + 1)
    for stage, seconds, used in rows:
        values = [sum(used.actions.get(name, 0.0) for name in names) for names in COLUMNS.values()]
        values += [used.apt_seconds, used.controller_cpu, used.server_cpu]
        total = [one + other for one, other in zip(total, [seconds, *values], strict=True)]
        lines.append(_row(stage, seconds, values))
    lines.append(_row("all", total[0], total[1:]))
    whole = total[0] or 1.0
    shares = "".join(f"{value / whole:>10.0%}" for value in total[1:])
    lines.append(f"{'share':<22}{'':>8}{shares}")
    return "\n".join(lines)


def _row(name: str, seconds: float, values: list[float]) -> str:
    cells = "".join(f"{value:>10.0f}" if value else f"{'':>10}" for value in values)
    return f"{name:<22}{seconds:>8.0f}{cells}"


def slowest(rows: list[tuple[str, float, Used]]) -> str:
    """Return the slowest tests of all stages."""
    found = sorted({test for _, _, used in rows for test in used.tests}, reverse=True)
    return "\n".join(f"{seconds:>8.1f}  {test}" for seconds, test in found[:SLOWEST_TESTS])


class Machine:
    """Watches how busy this machine is and how little memory is left, until `stop`."""

    def __init__(self) -> None:
        self.least_mib = available_mib()
        self._first = cpu_seconds()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.least_mib = min(self.least_mib, available_mib())

    def stop(self, seconds: float) -> str:
        """Return the average of busy cores, and the least memory that was available."""
        self._done.set()
        self._watch.join()
        busy, waiting, stolen = (
            (now - before) / seconds for now, before in zip(cpu_seconds(), self._first, strict=True)
        )
        return (
            f"cores busy on average: {busy:.2f}, waiting for a disk: {waiting:.2f}, "
            f"taken by other machines: {stolen:.2f}; least memory available: {self.least_mib} MiB"
        )


def cpu_seconds(stat: Path = Path("/proc/stat")) -> tuple[float, float, float]:
    """Return the machine's seconds of work, of waiting for a disk, and stolen, since its boot."""
    fields = [int(value) / CLOCK_TICKS for value in stat.read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, waiting, interrupt, soft, stolen = fields
    return user + nice + system + interrupt + soft, waiting, stolen


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the memory that programs can still get."""
    found = re.search(r"^MemAvailable: +(\d+) kB", meminfo.read_text(), re.MULTILINE)
    return int(found[1]) // 1024 if found else 0
