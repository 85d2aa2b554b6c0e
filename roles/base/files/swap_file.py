#!/usr/bin/python3
"""Make a swap file of a size and use it, or take it out of use.

    swap-file on MIB   make it unless it has that size, and use it
    swap-file off      use it no more; a shutdown leaves that to the kernel

A file of another size is replaced: its content has to fit into memory until then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FILE = Path("/var/bedstone.swap")
SWAPS = Path("/proc/swaps")
MEMORY = Path("/proc/meminfo")
MIB = 1024 * 1024
# What stays free of the disk: a full one stops PostgreSQL.
FREE_MIB = 1024


def used_kib() -> int | None:
    """Return how much of the file is in use; None where the kernel doesn't use it at all."""
    for line in SWAPS.read_text().splitlines()[1:]:
        name, _, _, used, _ = line.split()
        if name == str(FILE):
            return int(used)
    return None


def available_kib() -> int:
    """Return the memory that programs can still have."""
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0])


def refusal(mib: int) -> str | None:
    """Return why a file of this size can't be made, None where it can."""
    present = FILE.stat().st_blocks * 512 if FILE.exists() else 0
    free = (shutil.disk_usage(FILE.parent).free + present) // MIB
    if free < mib + FREE_MIB:
        return (
            f"{FILE.parent} has {free} MiB free: too few for {mib} MiB of swap and the"
            f" {FREE_MIB} MiB that have to stay free. Set a smaller base_swap_mb."
        )
    return too_full()


def too_full() -> str | None:
    """Return why the present file can't be taken out of use, None where it can."""
    used = used_kib() or 0
    if used * 1.2 > available_kib():
        return (
            f"{used // 1024} MiB of the present swap file are in use, and there is no memory for"
            " them. Reboot the server, or stop what needs the memory."
        )
    return None


def on(mib: int) -> str | None:
    """Make the file and use it; return why that can't be, None when it is done."""
    right = FILE.exists() and FILE.stat().st_size == mib * MIB
    if right and used_kib() is not None:
        return None
    if not right:
        if reason := refusal(mib):
            return reason
        off()
        FILE.unlink(missing_ok=True)
        draft = FILE.with_suffix(".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, mib * MIB)
        finally:
            os.close(descriptor)
        subprocess.run(["mkswap", "--quiet", str(draft)], check=True)
        draft.replace(FILE)
    subprocess.run(["swapon", str(FILE)], check=True)
    return None


def off() -> None:
    """Use the file no more."""
    if used_kib() is not None:
        subprocess.run(["swapoff", str(FILE)], check=True)


def stopping() -> bool:
    """Return whether the server shuts down: what is in the file has no place in memory then."""
    state = ["systemctl", "is-system-running"]
    done = subprocess.run(state, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.strip() == "stopping"


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 1 with the reason where that can't be."""
    try:
        if arguments == ["off"]:
            reason = None if stopping() else too_full()
            if reason is None and not stopping():
                off()
        else:
            reason = on(int(arguments[1]))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"{error}. A swap file works on ext4 and xfs, not on btrfs or a network's disk."
    if reason:
        sys.stderr.write(f"{reason}\n")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
