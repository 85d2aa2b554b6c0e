"""Read what the kernel counts of a container: its cgroup, of version 2 or 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedstone.core import paths

_TREE = "/sys/fs/cgroup"
# Version 1 has no word for "no limit": the largest number of whole pages.
_UNLIMITED = 1 << 62
_NANOSECONDS, _MICROSECONDS = 1e9, 1e6


@dataclass(frozen=True)
class Usage:
    """What a container uses.

    Attributes:
        memory_bytes: memory without the file cache that the kernel would give up first, as
            `docker stats` and Kubernetes have it.
        limit_bytes: its limit, None without one.
        cpu_seconds: CPU time since the container's start.

    """

    memory_bytes: int
    limit_bytes: int | None
    cpu_seconds: float


def usage(pid: int) -> Usage | None:
    """Return what the cgroup of a process uses, None when the process has ended.

    Args:
        pid: a container's first process.

    """
    try:
        groups = _groups(paths.host(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
        return _version_1(groups) if "memory" in groups else _version_2(groups[""])
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return None


def _groups(text: str) -> dict[str, str]:
    """Return the path of each controller; version 2's, which is one for all, has no name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _version_2(path: str) -> Usage:
    directory = _directory(path)
    limit = _text(directory / "memory.max")
    current = int(_text(directory / "memory.current"))
    cache = _table(directory / "memory.stat").get("inactive_file", 0)
    used = _table(directory / "cpu.stat")["usage_usec"]
    return Usage(
        max(current - cache, 0), None if limit == "max" else int(limit), used / _MICROSECONDS
    )


def _version_1(groups: dict[str, str]) -> Usage:
    memory = _directory(f"memory/{groups['memory']}")
    limit = int(_text(memory / "memory.limit_in_bytes"))
    current = int(_text(memory / "memory.usage_in_bytes"))
    cache = _table(memory / "memory.stat").get("total_inactive_file", 0)
    used = int(_text(_directory(f"cpuacct/{groups['cpuacct']}") / "cpuacct.usage"))
    return Usage(
        max(current - cache, 0), limit if limit < _UNLIMITED else None, used / _NANOSECONDS
    )


def _directory(path: str) -> Path:
    return paths.host(_TREE) / path.lstrip("/").replace("//", "/")


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {key: int(value) for key, value in pairs}
