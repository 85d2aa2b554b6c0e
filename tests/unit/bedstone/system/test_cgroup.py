"""What the kernel counts of a container, in cgroup v2 and v1."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedstone.system import cgroup

MIB = 1024**2


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_2(root: Path, **files: str) -> None:
    group = "sys/fs/cgroup/system.slice/docker-abc.scope"
    write(
        root,
        {
            "proc/7/cgroup": "0::/system.slice/docker-abc.scope\n",
            f"{group}/memory.current": f"{100 * MIB}\n",
            f"{group}/memory.max": f"{256 * MIB}\n",
            f"{group}/memory.stat": f"anon {60 * MIB}\ninactive_file {30 * MIB}\n",
            f"{group}/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        }
        | {f"{group}/{name.replace('_', '.', 1)}": text for name, text in files.items()},
    )


def version_1(root: Path, limit: int = 256 * MIB) -> None:
    group = "docker/abc"
    write(
        root,
        {
            "proc/7/cgroup": f"12:memory:/{group}\n5:cpu,cpuacct:/{group}\n1:name=systemd:/\n",
            f"sys/fs/cgroup/memory/{group}/memory.usage_in_bytes": f"{100 * MIB}\n",
            f"sys/fs/cgroup/memory/{group}/memory.limit_in_bytes": f"{limit}\n",
            f"sys/fs/cgroup/memory/{group}/memory.stat": f"rss 1\ntotal_inactive_file {30 * MIB}\n",
            f"sys/fs/cgroup/cpuacct/{group}/cpuacct.usage": "2500000000\n",
        },
    )


@pytest.mark.parametrize("version", [version_1, version_2])
def test_memory_is_without_cache_and_time_in_seconds(root: Path, version: object) -> None:
    version(root)  # type: ignore[operator]
    assert cgroup.usage(7) == cgroup.Usage(70 * MIB, 256 * MIB, 2.5)


def test_no_limit_is_none(root: Path) -> None:
    version_2(root, memory_max="max\n")
    found = cgroup.usage(7)
    assert found is not None
    assert found.limit_bytes is None


def test_no_limit_of_version_1_is_none(root: Path) -> None:
    version_1(root, limit=9223372036854771712)
    found = cgroup.usage(7)
    assert found is not None
    assert found.limit_bytes is None


def test_process_that_has_ended_uses_nothing(root: Path) -> None:
    assert cgroup.usage(7) is None
    version_2(root)
    (root / "sys/fs/cgroup/system.slice/docker-abc.scope/memory.current").unlink()
    assert cgroup.usage(7) is None
