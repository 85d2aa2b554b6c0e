"""The sandbox of Bedstone's own units: what every one of them is denied, and what each may do.

The lines of systemd.exec(5) are here once; a unit's template names its exceptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# All units have these; those that start an operator's own commands (hooks, builds) have no others,
# since no such command has a use for what is forbidden here. ProtectClock= is not among them: it
# forbids all devices, a hook's modem too.
_KERNEL = """\
LockPersonality=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictRealtime=yes
SystemCallArchitectures=native
"""

_STRICT = """\
MemoryDenyWriteExecute={write_execute}
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHome=yes
ProtectKernelLogs=yes
ProtectSystem=strict
ReadWritePaths={writes}
CapabilityBoundingSet={capabilities}
RestrictAddressFamilies={families}
RestrictNamespaces={namespaces}
RestrictSUIDSGID={restrict_setgid}
SystemCallFilter=@system-service
# As the program itself expects it: /run/bedstone holds its locks.
RuntimeDirectory=bedstone
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
UMask=0077
"""

FAMILIES = {
    "local": "AF_UNIX",
    "any": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
}


def systemd_sandbox(
    writes: Iterable[str],
    capabilities: Iterable[str] = (),
    *,
    network: str = "local",
    namespaces: str = "yes",
    setgid: bool = False,
    write_execute: bool = False,
) -> str:
    """Return the lines of a unit that works for root, and nowhere but where it has to.

    Args:
        writes: the directories that it writes to; one that may be missing begins with `-`.
        capabilities: what it needs of root's powers, without `CAP_`.
        network: `local` for sockets on this server alone, or `any`.
        namespaces: the kinds of namespaces that it makes; `yes` for none (RestrictNamespaces=).
        setgid: whether it makes directories with a group of their own.
        write_execute: whether it compiles code while it runs (PostgreSQL's JIT).

    Raises:
        ValueError: no such network.

    """
    if network not in FAMILIES:
        raise ValueError(f"systemd_sandbox: network is {network!r}, not {' or '.join(FAMILIES)}.")
    return _KERNEL + _STRICT.format(
        writes=" ".join(writes),
        capabilities=" ".join(f"CAP_{name}" for name in capabilities),
        families=FAMILIES[network],
        namespaces=namespaces,
        restrict_setgid="no" if setgid else "yes",
        write_execute="no" if write_execute else "yes",
    )


def systemd_kernel_sandbox(_none: str = "") -> str:
    """Return the lines of a unit that starts the operator's own commands as root."""
    return _KERNEL
