from pathlib import Path

from testbed.usage import apt_seconds, cpu_seconds

HISTORY = """
Start-Date: 2026-11-29  19:26:10
Commandline: /usr/bin/apt-get install curl
Install: curl:amd64 (8.14.1-2), libcurl4t64:amd64 (8.14.1-2, automatic)
End-Date: 2026-11-29  19:26:14

Start-Date: 2026-11-29  23:59:58
Install: nginx:amd64 (1.26.3-3)
End-Date: 2026-11-30  00:00:03

Start-Date: 2026-11-30  00:00:10
"""


def test_runs_of_dpkg_are_added_and_one_without_an_end_is_left_out() -> None:
    assert apt_seconds(HISTORY) == 9
    assert apt_seconds("") == 0


def test_processor_time_is_read_from_either_cgroup(tmp_path: Path) -> None:
    older = tmp_path / "cpuacct/libpod_parent/libpod-1"
    older.mkdir(parents=True)
    (older / "cpuacct.usage").write_text("2500000000\n")
    newer = tmp_path / "machine.slice/libpod-2.scope"
    newer.mkdir(parents=True)
    (newer / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n")
    assert cpu_seconds("/libpod_parent/libpod-1", tmp_path) == 2.5
    assert cpu_seconds("/machine.slice/libpod-2.scope", tmp_path) == 1.5
    assert cpu_seconds("/gone", tmp_path) == 0
    (tmp_path / "cpuacct/cpuacct.usage").write_text("9000000000\n")
    assert cpu_seconds("", tmp_path) == 0
