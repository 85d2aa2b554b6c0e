"""Give a command that an operator starts the weights that its timer's unit has.

A session's processes share the processors with all services together, half and half, whatever
`nice` says. So this process moves into a scope next to the services, where it counts for little.
The database's own processes stay where they are: one that holds a lock and gets no time would hold
up all that wait for it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from bedstone.core.errors import BedstoneError
from bedstone.core.process import run

# As in roles/backup/templates/backup/etc/systemd/system/bedstone-backup.service.j2.
NICE = 10
WEIGHT = 20
_SECONDS = 10
_CGROUP = Path("/proc/self/cgroup")


def step_back() -> None:
    """Lower this process's priority, unless it is in a unit with a low one."""
    with suppress(OSError):
        if "/bedstone-" in _CGROUP.read_text(encoding="utf-8"):
            return
        os.nice(NICE)
    # That it can't be had (no systemd, not root) is no reason to have no backup.
    with suppress(BedstoneError):
        run(["ionice", "--class", "2", "--classdata", "7", "--pid", str(os.getpid())], check=False)
        run(scope(os.getpid()), timeout=_SECONDS, check=False)


def step_back_fully(niceness: int) -> None:
    """Lower this process's priority below all others' for the disks.

    Args:
        niceness: how much nicer it gets.

    """
    os.nice(niceness)
    # In a container without the right to, it is only less polite.
    with suppress(BedstoneError):
        run(["ionice", "--class", "3", "--pid", str(os.getpid())], check=False)


def scope(pid: int) -> list[str]:
    """Return the command that moves a process into a scope of its own."""
    name = f"bedstone-by-hand-{secrets.token_hex(4)}.scope"
    weights = [part for what in ("CPU", "IO") for part in (f"{what}Weight", "t", str(WEIGHT))]
    return [
        "busctl", "--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail",
        "4", "PIDs", "au", "1", str(pid), *weights, "CollectMode", "s", "inactive-or-failed", "0",
    ]  # fmt: skip
