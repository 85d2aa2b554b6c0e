"""Reading what Ansible's callback ansible.posix.profile_tasks prints."""

import re
from dataclasses import dataclass

LINE = re.compile(r"^(?P<task>\S.*?) -{2,} *(?P<seconds>\d+\.\d\d)s$")


HEADING = re.compile(r"^TASK \[(?P<task>.*)\] \**$")


@dataclass(frozen=True)
class Task:
    """A task and how long it took."""

    name: str
    seconds: float


def tasks(output: str) -> list[Task]:
    """Return the tasks of a run's profile, the slowest first."""
    found = [
        Task(match["task"], float(match["seconds"]))
        for line in output.splitlines()
        if (match := LINE.match(line.strip()))
    ]
    return sorted(found, key=lambda task: -task.seconds)


def changed(output: str) -> list[str]:
    """Return the names of the tasks that changed something, in the order of the run."""
    found: dict[str, None] = {}
    current = ""
    for line in output.splitlines():
        if match := HEADING.match(line):
            current = match["task"]
        elif line.startswith("changed: "):
            found[current] = None
    return list(found)
