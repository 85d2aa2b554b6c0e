"""A test server leaves the machine's kernel as it was, and boots on a kernel that none has changed.

Values that only a boot of the machine takes back hide a failure on a machine that was used before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import servers
from testbed.servers import Server, Spec
from testbed.shell import podman, run

GROUP = "machine"
VALUES = Path("/proc/sys")
# Per network namespace: a server's own.
OWN = "net"
# Counters, and what any program on the machine moves by itself.
MOVING = re.compile(
    r"kernel/(ns_last_pid|pty/nr|random/.*|sched_.*|perf_.*)|fs/(dentry-state|inode-.*|file-nr|aio-nr)"
    r"|fs/binfmt_misc/.*|vm/(stat_refresh|compact_memory|drop_caches)"
)
# What systemd narrows when its manager drops capabilities: writing takes CAP_SYS_MODULE, which
# servers lack, so it fails unless the values are narrow already.
HELPERS = ("kernel/usermodehelper/bset", "kernel/usermodehelper/inheritable")
SETTINGS = "systemd-analyze cat-config systemd/system.conf"


def values() -> dict[str, str]:
    """Return the machine's kernel values that root may write, the network's left out."""
    found = {}
    for top in sorted(VALUES.iterdir()):
        for directory, _, names in os.walk(top) if top.name != OWN else ():
            for path in (Path(directory, name) for name in names):
                name = str(path.relative_to(VALUES))
                if path.stat().st_mode & 0o222 and not MOVING.fullmatch(name):
                    try:
                        found[name] = path.read_text()
                    except OSError:
                        continue  # for writing only
    return found


def all_capabilities() -> str:
    """Return the value of a full set of capabilities, as kernel.usermodehelper shows it."""
    last = int((VALUES / "kernel/cap_last_cap").read_text())
    bits = (1 << last + 1) - 1
    return f"{bits & 0xFFFFFFFF}\t{bits >> 32}"


@pytest.fixture(scope="module")
def boot() -> Iterator[tuple[dict[str, str], Server]]:
    """The machine's values before a server booted, and that server."""
    before = values()
    server, made = servers.up(Spec("machine", group=GROUP))
    assert made, "it was up before"
    try:
        yield before, server
    finally:
        servers.down(servers.containers(group=GROUP))


def test_boot_changes_none_of_the_machines_values(boot: tuple[dict[str, str], Server]) -> None:
    before, _ = boot
    after = values()
    assert len(before) > 100, "the values were read"
    assert {name: (before.get(name), after[name]) for name in after} == {
        name: (after[name], after[name]) for name in after
    }


def test_server_can_not_write_the_machines_values(boot: tuple[dict[str, str], Server]) -> None:
    _, server = boot
    script = """
import os
for top, _, names in os.walk("/proc/sys"):
    for path in [os.path.join(top, name) for name in names] + ["/proc/sysrq-trigger"]:
        if not path.startswith("/proc/sys/net/") and os.path.exists(path):
            try:
                os.close(os.open(path, os.O_WRONLY))
            except OSError:
                continue
            print(path)
"""
    assert run(server.ssh("python3 -"), input_text=script).stdout.split() == []
    # Those of its own network it can.
    run(server.ssh("echo 1 > /proc/sys/net/ipv4/ip_forward"))


def test_image_asks_for_nothing_that_a_dropped_capability_takes(
    boot: tuple[dict[str, str], Server],
) -> None:
    _, server = boot
    said = run(server.ssh(SETTINGS)).stdout
    assert "[Manager]" in said
    asked = [line for line in said.splitlines() if re.match(r"\s*CapabilityBoundingSet\s*=", line)]
    assert asked == []
    logs = podman(["logs", servers.container_name(server.name)], check=False)
    assert "usermode helpers" not in logs.stdout + logs.stderr


def test_boot_needs_no_value_that_an_earlier_container_left(
    boot: tuple[dict[str, str], Server],
) -> None:
    before, _ = boot
    narrowed = [name for name in HELPERS if before[name].strip() != all_capabilities()]
    if narrowed:
        pytest.skip(
            f"can't tell: {' and '.join(narrowed)} were narrowed before on this machine, and only a"
            " reboot widens them"
        )
    # It has booted (the fixture), with the values of a fresh kernel.
