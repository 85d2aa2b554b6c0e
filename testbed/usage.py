"""Note what a server used before it is removed, for the report of a test run."""

import json
import os
import re
from datetime import datetime
from pathlib import Path

from testbed.shell import podman

# The file that gets a line of JSON for each removed server; without it nothing is noted.
VARIABLE = "BEDSTONE_TESTBED_USAGE"
APT_DATE = "%Y-%m-%d  %H:%M:%S"
CGROUPS = Path("/sys/fs/cgroup")
APT_HISTORY = "/var/log/apt/history.log"
APT_RUN = re.compile(r"^Start-Date: (.+)\n(?:\S.*\n)*?End-Date: (.+)$", re.MULTILINE)


def apt_seconds(history: str) -> float:
    """Return how long the runs of dpkg in apt's history took, to the second each."""
    runs = [
        [datetime.strptime(f"{at} +0000", f"{APT_DATE} %z") for at in run]
        for run in APT_RUN.findall(history)
    ]
    return sum((end - start).total_seconds() for start, end in runs)


def cpu_seconds(cgroup: str, root: Path = CGROUPS) -> float:
    """Return the CPU seconds of a container, by the path of its cgroup (v1 or v2)."""
    # A stopped container has none, and the root's would be the whole machine's.
    if not cgroup.strip("/"):
        return 0.0
    older = root / "cpuacct" / cgroup.lstrip("/") / "cpuacct.usage"
    if older.exists():
        return int(older.read_text()) / 1e9
    newer = root / cgroup.lstrip("/") / "cpu.stat"
    if newer.exists():
        found = re.search(r"^usage_usec (\d+)$", newer.read_text(), re.MULTILINE)
        return int(found[1]) / 1e6 if found else 0.0
    return 0.0


def note(name: str, container: str) -> None:
    """Append what a running server used to the file that the environment names, if it does."""
    target = os.environ.get(VARIABLE)
    if not target:
        return
    inspected = podman(["inspect", "--format={{.State.CgroupPath}}", container], check=False)
    history = podman(["exec", container, "cat", APT_HISTORY], check=False)
    used = {
        "server": name,
        "cpu_seconds": cpu_seconds(inspected.stdout.strip()),
        "apt_seconds": apt_seconds(history.stdout if history.returncode == 0 else ""),
    }
    with Path(target).open("a") as notes:
        notes.write(json.dumps(used) + "\n")
