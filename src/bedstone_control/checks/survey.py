# ruff: noqa: PTH110, PTH112, PTH115, PTH120, PTH123, PTH207 (pathlib is a third of the run)
"""Looks at a server before anything is changed: run there by python3, prints JSON.

Its arguments are the ports on which a program of another owner would be in the way.

Standard library only, and written so that a Python too old for the rest still gets to say so.
One call of this costs a tenth of Ansible's own fact gathering.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import sys
import time

TCP = ("/proc/net/tcp", "/proc/net/tcp6")
LOOPBACK_IPV6 = "0" * 24 + "01000000"
FIREWALL = "/etc/bedstone/firewall.nft"
DATA_DIRECTORIES = ("/", "/var/lib/docker", "/var/lib/postgresql")


def read(path: str) -> str:
    """Return a file's text, nothing when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def release() -> dict[str, str]:
    """Return /etc/os-release as a mapping."""
    pairs = [line.partition("=") for line in read("/etc/os-release").splitlines()]
    return {key: value.strip().strip("\"'") for key, _, value in pairs}


def memory_mb() -> int:
    """Return the memory in MiB."""
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def free_mb(path: str) -> int:
    """Return the free space in MiB where a directory is or would be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // 2**20


def address() -> str | None:
    """Return the address of the default route's interface; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def interface() -> str | None:
    """Return the interface of the default route by IPv4."""
    for line in read("/proc/net/route").splitlines():
        parts = line.split()
        if len(parts) > 1 and parts[1] == "00000000":
            return parts[0]
    return None


def interface_ipv6() -> str | None:
    """Return the interface of the default route by IPv6; the kernel's own refusing one is on lo."""
    for line in read("/proc/net/ipv6_route").splitlines():
        parts = line.split()
        if not parts[0].strip("0") and parts[1] == "00" and parts[-1] != "lo":
            return parts[-1]
    return None


def nameservers() -> list[str]:
    """Return the DNS servers of this host."""
    lines = [line.split() for line in read("/etc/resolv.conf").splitlines()]
    return [parts[1] for parts in lines if len(parts) > 1 and parts[0] == "nameserver"]


def sockets_of(tables: tuple[str, ...], *, local: bool) -> dict[str, int]:
    """Return the ports of the listening sockets, by the name that a process has for them.

    Args:
        tables: files of the kernel.
        local: whether those that only the server itself reaches are among them.

    """
    found = {}
    for table in tables:
        for line in read(table).splitlines()[1:]:
            parts = line.split()
            address, _, port = parts[1].rpartition(":")
            # 127.0.0.0/8 and ::1, as the kernel prints them on a little-endian machine.
            ipv6 = table.endswith("6")
            loopback = address == LOOPBACK_IPV6 if ipv6 else address.endswith("7F")
            if parts[3] == "0A" and (local or not loopback):
                found[f"socket:[{parts[9]}]"] = int(port, 16)
    return found


def programs_of(sockets: dict[str, int]) -> dict[str, str]:
    """Return the names of the programs that hold listening sockets, by port."""
    found = {}
    for link in glob.glob("/proc/[0-9]*/fd/*") if sockets else []:
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target in sockets:
            process = link.split("/")[2]
            found[str(sockets[target])] = read(f"/proc/{process}/comm").strip()
    return found


def listeners(watched: list[int]) -> dict[str, str]:
    """Return the programs that listen on the watched ports, by port."""
    sockets = sockets_of(TCP, local=True)
    return programs_of({name: port for name, port in sockets.items() if port in watched})


def open_ports() -> dict[str, str]:
    """Return the ports that others reach, with their programs, on a server without our firewall."""
    return {} if os.path.exists(FIREWALL) else programs_of(sockets_of(TCP, local=False))


def apps() -> dict[str, dict[str, object]]:
    """Return the apps that serve or were retired here, with the domains they have or had."""
    found: dict[str, dict[str, object]] = {}
    for directory in glob.glob("/var/lib/bedstone/apps/*"):
        retired = read(f"{directory}/retired.json")
        serves = glob.glob(f"{directory}/slots/*@*.json")
        if not retired and not serves:
            continue
        releases = sorted(glob.glob(f"{directory}/releases/*/app.json"))
        text = retired or (read(releases[-1]) if releases else "")
        try:
            domains = list(json.loads(text).get("domains", []))
        except (ValueError, AttributeError, TypeError):
            domains = []
        found[directory.rpartition("/")[2]] = {"domains": domains, "retired": not serves}
    return found


def retention() -> dict[str, object] | None:
    """Return how much is kept of backups here, None when no backup was made."""
    try:
        return dict(json.loads(read("/var/lib/bedstone/retention.json")))
    except (ValueError, TypeError):
        return None


def main() -> None:
    """Print what there is."""
    system = release()
    json.dump(
        {
            "user_id": os.geteuid(),
            "python": list(sys.version_info[:3]),
            "distribution": system.get("ID", ""),
            "distribution_name": system.get("NAME", "").split(" ")[0],
            "release": system.get("VERSION_CODENAME", ""),
            "version": system.get("VERSION_ID", ""),
            "full_version": read("/etc/debian_version").strip(),
            "memory_mb": memory_mb(),
            "cpus": os.cpu_count() or 1,
            "free_mb": {path: free_mb(path) for path in DATA_DIRECTORIES},
            "time": time.time(),
            "hostname": socket.gethostname().split(".")[0],
            "address": address(),
            "interface": interface(),
            "interface_ipv6": interface_ipv6(),
            "nameservers": nameservers(),
            "open_ports": open_ports(),
            "listeners": listeners([int(text) for text in sys.argv[1:]]),
            "apps": apps(),
            "retention": retention(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
