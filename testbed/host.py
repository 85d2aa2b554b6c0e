"""Detect the kind of this machine, instead of assuming it."""

import resource
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.shell import which

# Bits of the kernel's capability sets (linux/capability.h).
CAP_SYS_RESOURCE = 24
# podman lowers its own limit when it starts; this is below what it keeps.
PROCESSES = 4096


@dataclass(frozen=True)
class Host:
    """The properties of this machine that decide how a server is started."""

    cgroup: str  # "v1", "hybrid" or "v2"
    runtime: str | None  # the OCI runtime to ask for, None for podman's own choice
    limits: dict[str, int]  # ulimits to state because podman may not raise its own


def cgroup_layout(mounts: str) -> str:
    """Return "v1", "hybrid" or "v2" from the text of /proc/self/mounts.

    Raises:
        TestbedError: no cgroup file system is mounted.

    """
    types = {
        fields[2]
        for line in mounts.splitlines()
        if len(fields := line.split()) > 2 and fields[2] in {"cgroup", "cgroup2"}  # noqa: PLR2004
    }
    if types == {"cgroup2"}:
        return "v2"
    if types == {"cgroup"}:
        return "v1"
    if types:
        return "hybrid"
    raise TestbedError(
        "No cgroup file system is mounted, so no container can run here.",
        "On a usual machine systemd mounts it; in a container, start that one with its cgroup.",
    )


def has_capability(status: str, bit: int) -> bool:
    """Return whether the text of /proc/self/status shows an effective capability."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def choose_runtime(cgroup: str, runc: str | None) -> str | None:
    """Return the OCI runtime to use; crun refuses the older cgroup layouts.

    Raises:
        TestbedError: the layout needs runc and it is missing.

    """
    if cgroup == "v2":
        return None
    if runc is None:
        raise TestbedError(
            f"This machine has cgroup {cgroup}, which needs runc.", "Run: make setup"
        )
    return runc


def detect() -> Host:
    """Inspect this machine.

    Raises:
        TestbedError: something that the testbed needs is missing.

    """
    missing = [name for name in ("podman", "mmdebstrap", "ssh", "ssh-keygen") if not which(name)]
    if missing:
        raise TestbedError(f"Missing on this machine: {', '.join(missing)}.", "Run: make setup")
    cgroup = cgroup_layout(Path("/proc/self/mounts").read_text())
    limits: dict[str, int] = {}
    if not has_capability(Path("/proc/self/status").read_text(), CAP_SYS_RESOURCE):
        # podman asks for higher limits than it may set; for root without the
        # capability (never for a user who goes through sudo) that is fatal.
        limits = {
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "nproc": min(resource.getrlimit(resource.RLIMIT_NPROC)[1], PROCESSES),
        }
    return Host(cgroup=cgroup, runtime=choose_runtime(cgroup, which("runc")), limits=limits)
