"""Upgrades, dpkg, and what runs on replaced files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import config
from bedstone.core.process import Completed
from bedstone.system import apt
from bedstone.system.systemd import Systemd
from bedstone.watch import packages
from bedstone.watch.packages import Dpkg, Replaced, Upgrades

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TIMERS = {
    name: {"ActiveState": "active"} for name in ("apt-daily.timer", "apt-daily-upgrade.timer")
}
FRESH = {"lists": NOW - DAY, "upgrades": NOW - DAY}
MAPS = """\
55d0-55d1 r-xp 00000000 00:1f 1 {path}
7f00-7f01 rw-p 00000000 00:01 5 /memfd:x (deleted)
7f02-7f03 rw-s 00000000 00:01 6 /dev/shm/pool (deleted)
7f04-7f05 rw-p 00000000 00:1f 7 /usr/lib/data.so (deleted)
7ffd-7ffe r-xp 00000000 00:00 0 [vdso]
"""
POLICY = """\
openssl:
  Installed: 3.5.0-1
  Candidate: 3.5.0-2
  Version table:
     3.5.0-2 500
        500 http://deb.example.com/{suite} trixie{suffix}/main amd64 Packages
 *** 3.5.0-1 100
        100 /var/lib/dpkg/status
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(apt, "run", fails)
    return tmp_path


def upgrades(**more: Any) -> list[tuple[str, str]]:
    known: dict[str, Any] = {"since": NOW - 90 * DAY, "stamps": FRESH, "units": TIMERS}
    found = Upgrades(**(known | more))
    return [(alarm.name, alarm.severity) for alarm in packages.judge_upgrades(found, NOW)]


# --- upgrades --------------------------------------------------------------------------------


def test_upgrades_that_go_well_are_silent_and_so_is_a_server_that_has_none() -> None:
    assert upgrades() == []
    assert upgrades(since=None, units={}, stamps={}) == []


@pytest.mark.parametrize(("days", "severity"), [(2, None), (4, "warning"), (15, "red")])
def test_success_too_long_ago(days: int, severity: str | None) -> None:
    expected = [("upgrades/upgrades", severity)] if severity else []
    assert upgrades(stamps={"lists": NOW, "upgrades": NOW - days * DAY}) == expected


@pytest.mark.parametrize(("days", "severity"), [(1, None), (4, "warning"), (15, "red")])
def test_server_that_never_upgraded_has_its_first_days(days: int, severity: str | None) -> None:
    found = Upgrades(NOW - days * DAY, {"lists": NOW, "upgrades": None}, TIMERS)
    alarms = list(packages.judge_upgrades(found, NOW))
    assert [alarm.severity for alarm in alarms] == ([severity] if severity else [])
    if alarms:
        assert "security updates were never installed without an error" in alarms[0].words


def test_timer_that_is_off_is_red() -> None:
    shown = TIMERS | {"apt-daily-upgrade.timer": {"ActiveState": "inactive"}}
    assert upgrades(units=shown) == [("upgrades/apt-daily-upgrade.timer", "red")]


@pytest.mark.parametrize(("hours", "stuck"), [(1, False), (7, True)])
def test_upgrade_that_is_stuck_is_red(hours: int, *, stuck: bool) -> None:
    began = NOW - timedelta(hours=hours)
    state = {
        "ActiveState": "activating",
        "ExecMainStartTimestamp": f"{began:%a %Y-%m-%d %H:%M:%S} UTC",
    }
    expected = [("upgrades/apt-daily-upgrade.service", "red")] if stuck else []
    assert upgrades(units=TIMERS | {"apt-daily-upgrade.service": state}) == expected


def test_failed_upgrade_is_a_warning() -> None:
    state = {"ActiveState": "failed", "Result": "exit-code"}
    expected = [("upgrades/apt-daily-upgrade.service", "warning")]
    assert upgrades(units=TIMERS | {"apt-daily-upgrade.service": state}) == expected


def test_stamps_are_read_where_upgrades_are_on(root: Path) -> None:
    def systemctl(argv: Sequence[str], **_: Any) -> Completed:
        said = "\n\n".join(f"Id={unit}\nActiveState=active" for unit in argv[4:])
        return Completed(tuple(argv), 0, said, "", 0.0)

    assert packages.gather_upgrades(Systemd(systemctl)).since is None
    for path in ("etc/apt/apt.conf.d/52bedstone", "var/lib/apt/periodic/upgrade-stamp"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
        os.utime(root / path, (1_700_000_000, 1_700_000_000))
    found = packages.gather_upgrades(Systemd(systemctl))
    assert found.since == found.stamps["upgrades"] == datetime.fromtimestamp(1_700_000_000, UTC)
    assert found.stamps["lists"] is None
    assert found.units["apt-daily.timer"]["ActiveState"] == "active"


# --- dpkg ------------------------------------------------------------------------------------


def status(root: Path, *entries: tuple[str, str]) -> None:
    text = "".join(
        f"Package: {name}\nEssential: yes\nStatus: {state}\nDescription: x\n more\n .\n\n"
        for name, state in entries
    )
    (root / "var/lib/dpkg/updates").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").write_text(text)


def policy(suite: str, suffix: str) -> Any:
    def ask(argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, POLICY.format(suite=suite, suffix=suffix), "", 0.0)

    return ask


def fails(argv: Sequence[str], **_: Any) -> Completed:
    raise AssertionError(argv)


def test_whole_packages_are_silent_and_ask_apt_nothing(root: Path) -> None:
    status(root, ("bash", "install ok installed"), ("old", "deinstall ok config-files"))
    found = packages.gather_dpkg()
    assert list(packages.judge_dpkg(found, NOW)) == []


@pytest.mark.parametrize(
    "state",
    ["install ok half-configured", "install ok unpacked", "install reinstreq half-installed"],
)
def test_half_installed_package_is_red(root: Path, state: str) -> None:
    status(root, ("bash", "install ok installed"), ("openssl", state))
    [alarm] = packages.judge_dpkg(packages.gather_dpkg(), NOW)
    assert (alarm.severity, alarm.name) == ("red", "dpkg/interrupted")
    assert "(openssl)" in alarm.words
    assert "dpkg --configure -a" in alarm.command


def test_interrupted_dpkg_is_red(root: Path) -> None:
    status(root, ("bash", "install ok installed"))
    (root / "var/lib/dpkg/updates/0001").touch()
    [alarm] = packages.judge_dpkg(packages.gather_dpkg(), NOW)
    assert alarm.severity == "red"


@pytest.mark.parametrize(("suite", "held"), [("debian-security", True), ("debian", False)])
def test_held_package_counts_when_what_waits_is_a_security_update(
    root: Path, monkeypatch: pytest.MonkeyPatch, suite: str, *, held: bool
) -> None:
    status(root, ("openssl", "hold ok installed"))
    monkeypatch.setattr(apt, "run", policy(suite, "-security" if held else ""))
    alarms = list(packages.judge_dpkg(packages.gather_dpkg(), NOW))
    assert [alarm.name for alarm in alarms] == (["dpkg/held"] if held else [])
    if held:
        assert "openssl 3.5.0-2" in alarms[0].words
        assert "apt-mark unhold openssl" in alarms[0].command


def test_dpkg_at_work_is_not_judged(root: Path) -> None:
    status(root, ("openssl", "install ok half-configured"))
    lock = root / "var/lib/dpkg/lock-frontend"
    lock.touch()
    assert not packages.is_locked(lock)
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX)"
    wait = f"{code}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", wait, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        assert packages.is_locked(lock)
        assert packages.gather_dpkg() == Dpkg(running=True)
        assert list(packages.judge_dpkg(Dpkg(running=True, broken=["x"]), NOW)) == []
        holder.communicate()
    # To look at it must not take it.
    with lock.open("w") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- replaced files --------------------------------------------------------------------------


def process(proc: Path, pid: int, path: str, group: str) -> None:
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    (directory / "maps").write_text(MAPS.format(path=path))
    (directory / "cgroup").write_text(f"1:name=systemd:{group}\n0::{group}\n")


def test_units_that_run_on_replaced_programs_are_found_and_containers_are_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = "/usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)"
    process(tmp_path, 10, gone, "/system.slice/nginx.service")
    process(tmp_path, 11, "/usr/lib/libc.so.6", "/system.slice/cron.service")
    process(tmp_path, 12, gone, "/system.slice/docker-0123abc.scope")
    process(tmp_path, 13, gone, "/user.slice/user-0.slice/session-1.scope")
    process(
        tmp_path, 14, gone, "/system.slice/system-bedstone.slice/bedstone-shop-web-api@blue.service"
    )
    process(tmp_path, 15, gone, "/system.slice/dbus.service")
    process(tmp_path, 1, gone, "/init.scope")
    process(tmp_path, os.getpid(), gone, "/system.slice/bedstone-alarms.service")
    (tmp_path / "99").mkdir()
    monkeypatch.setattr(config, "declared_parts", lambda: {"shop": {"web-api"}})
    found = packages.gather_libraries(tmp_path)
    assert [entry.unit for entry in found] == [
        "bedstone-shop-web-api@blue.service",
        "dbus.service",
        "init.service",
        "nginx.service",
    ]
    assert set(found[0].files) == {"/usr/lib/x86_64-linux-gnu/libssl.so.3"}
    services, reboot = packages.judge_libraries(found, NOW)
    assert services.command == "`bedstone restart shop && systemctl restart nginx.service`"
    assert "libssl.so.3" in services.words
    assert reboot.command == "`systemctl reboot`"
    assert {services.severity, reboot.severity} == {"warning"}


def test_nothing_replaced_is_silent() -> None:
    assert list(packages.judge_libraries([], NOW)) == []
    [alarm] = packages.judge_libraries([Replaced(f"u{n}.service", ["/x"]) for n in range(9)], NOW)
    assert "and 3 more" in alarm.words
