"""Check packages: unattended upgrades, dpkg, held packages, and programs on replaced files."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.core import age, names, paths
from bedstone.notify.alarms import Alarm
from bedstone.system import apt, systemd
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_SECONDS = 15.0
_PROPERTIES = ("ActiveState", "Result", "UnitFileState", "ExecMainStartTimestamp")
_TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
_SERVICES = ("apt-daily.service", "apt-daily-upgrade.service")
# Daily jobs: one that has not worked for a weekend is not late by chance.
WARN_AFTER, RED_AFTER = timedelta(days=3), timedelta(days=14)
# Nothing that they do takes so long.
STUCK_AFTER = timedelta(hours=6)
_LOCK = struct.Struct("hhqqi4x")
_STATUS = re.compile(
    r"^Package: (\S+)$\n(?:^\S.*\n| .*\n)*?^Status: (\S+) (\S+) (\S+)$", re.MULTILINE
)
_MAPPED = re.compile(r"^\S+ ..x. \S+ \S+ \S+\s+(/\S.*) \(deleted\)$", re.MULTILINE)
_UNIT = re.compile(r"/([^/\n]+\.service)(?=/|$)", re.MULTILINE)
_CONTAINER = re.compile(r"/docker[-/]|/libpod|/containerd", re.MULTILINE)
# Only a reboot loads the new files of these without an interruption.
_UNTOUCHABLE = re.compile(r"(dbus|dbus-broker|systemd-logind|user@\d+|init)\.service")
_MOST_NAMES = 6


@dataclass(frozen=True)
class Upgrades:
    """The state of the daily upgrades.

    Attributes:
        since: since when this server is to upgrade itself; None: it is not.
        stamps: when package lists were last fetched and upgrades last worked.
        units: systemd's properties of apt's timers and services.

    """

    since: datetime | None
    stamps: Mapping[str, datetime | None]
    units: Mapping[str, Mapping[str, str]]


def gather_upgrades(manager: Systemd | None = None) -> Upgrades:
    """Return how the daily upgrades go; a stamp is written by a success alone."""
    configured = _modified(paths.host("/etc/apt/apt.conf.d/52bedstone"))
    stamps = {
        what: _modified(paths.host(f"/var/lib/apt/periodic/{name}"))
        for what, name in (("lists", "update-stamp"), ("upgrades", "upgrade-stamp"))
    }
    shown: Mapping[str, Mapping[str, str]] = {}
    if configured is not None:
        manager = manager or Systemd()
        shown = manager.properties([*_TIMERS, *_SERVICES], _PROPERTIES, timeout=_SECONDS)
    return Upgrades(configured, stamps, shown)


def judge_upgrades(found: Upgrades, now: datetime) -> Iterator[Alarm]:
    """Yield what is wrong with the daily upgrades."""
    if found.since is None:
        return
    for timer in _TIMERS:
        state = found.units.get(timer, {})
        if state.get("ActiveState") != "active":
            yield Alarm(
                f"upgrades/{timer}",
                "red",
                f"{timer} is off ({state.get('ActiveState') or 'unknown'}): this server gets no"
                " security updates",
                f"`systemctl enable --now {timer}`",
            )
    for service in _SERVICES:
        state = found.units.get(service, {})
        began = systemd.moment(state.get("ExecMainStartTimestamp"))
        if state.get("ActiveState") == "activating" and began and now - began > STUCK_AFTER:
            yield Alarm(
                f"upgrades/{service}",
                "red",
                f"{service} has run for {age.humanize((now - began).total_seconds())} and is stuck",
                f"`systemctl status {service}` shows what it waits for, `systemctl stop {service}`"
                " ends it",
            )
        elif state.get("ActiveState") == "failed":
            yield Alarm(
                f"upgrades/{service}",
                "warning",
                f"{service} has failed ({state.get('Result')})",
                f"`journalctl -u {service} -n 50`, then `systemctl start {service}`",
            )
    for what, words, service in (
        ("lists", "the lists of packages were last fetched", "apt-daily.service"),
        ("upgrades", "security updates were last installed without an error", _SERVICES[1]),
    ):
        stamp = found.stamps.get(what)
        old = now - max(stamp or found.since, found.since)
        if old > WARN_AFTER:
            ago = f"{words} {age.humanize(old.total_seconds())} ago"
            if stamp is None:
                never = words.replace(" were last ", " were never ")
                ago = f"{never}, in {age.humanize(old.total_seconds())}"
            yield Alarm(
                f"upgrades/{what}",
                "red" if old > RED_AFTER else "warning",
                ago,
                f"`systemctl start {service}`, then `journalctl -u {service} -n 50` and"
                " /var/log/unattended-upgrades/unattended-upgrades.log",
            )


# --- dpkg ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dpkg:
    """The unfinished work of dpkg.

    Attributes:
        running: a program changes packages at this moment.
        broken: packages that are half installed or not configured.
        journal: whether dpkg was interrupted while it wrote.
        held: packages on hold that have a security update, with the version that waits.

    """

    running: bool
    broken: Sequence[str] = ()
    journal: bool = False
    held: Mapping[str, str] | None = None


def gather_dpkg() -> Dpkg:
    """Read dpkg's own files; apt is asked only of packages that are on hold."""
    base = paths.host("/var/lib/dpkg")
    if is_locked(base / "lock-frontend") or is_locked(base / "lock"):
        return Dpkg(running=True)
    try:
        text = (base / "status").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return Dpkg(running=False)
    broken, on_hold = [], []
    for package, wanted, error, state in _STATUS.findall(text):
        if error != "ok" or state in {"half-installed", "unpacked", "half-configured"}:
            broken.append(package)
        elif wanted == "hold" and state == "installed":
            on_hold.append(package)
    updates = base / "updates"
    interrupted = updates.is_dir() and any(path.name.isdigit() for path in updates.iterdir())
    held = {
        package: update.candidate
        for package in on_hold
        if (update := apt.update(package)) and update.security
    }
    return Dpkg(False, broken, interrupted, held)


def judge_dpkg(found: Dpkg, now: datetime) -> Iterator[Alarm]:
    """Yield what is wrong with installed packages."""
    del now
    if found.running:
        return
    if found.broken or found.journal:
        names = f" ({_names(found.broken)})" if found.broken else ""
        yield Alarm(
            "dpkg/interrupted",
            "red",
            f"dpkg was interrupted{names}: no package is installed or upgraded until it is mended",
            "`dpkg --configure -a && apt-get --fix-broken install`",
        )
    if found.held:
        names = ", ".join(f"{name} {version}" for name, version in found.held.items())
        yield Alarm(
            "dpkg/held",
            "warning",
            f"packages on hold have security updates ({names})",
            f"`apt-mark unhold {' '.join(found.held)} && apt-get install --only-upgrade"
            f" {' '.join(found.held)}`",
        )


def is_locked(path: Path) -> bool:
    """Return whether another process holds apt's or dpkg's lock, without taking it (fcntl)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_ = _LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    except OSError:
        return False
    else:
        return bool(kind != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


# --- Replaced files ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replaced:
    """A unit whose processes run on files that an upgrade has replaced."""

    unit: str
    files: Sequence[str]
    app: str | None = None


def gather_libraries(proc: Path | None = None) -> list[Replaced]:
    """Find programs and libraries that are mapped and were deleted; not in containers.

    The kernel marks them in /proc/PID/maps (proc(5)).
    """
    proc = proc or paths.host("/proc")
    found: dict[str, set[str]] = {}
    for directory in proc.glob("[0-9]*"):
        try:
            if int(directory.name) == os.getpid():
                continue
            groups = (directory / "cgroup").read_text(encoding="utf-8", errors="replace")
            if _CONTAINER.search(groups):
                continue
            text = (directory / "maps").read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            # It is gone by now.
            continue
        files = {
            name for name in _MAPPED.findall(text) if name.startswith(("/usr/", "/lib", "/opt/"))
        }
        units = _UNIT.findall(groups)
        unit = units[0] if units else "init.service" if directory.name == "1" else ""
        if files and unit:
            found.setdefault(unit, set()).update(files)
    apps = config.declared_parts()
    return [
        Replaced(unit, sorted(files), names.app_of_slot_unit(unit, apps))
        for unit, files in sorted(found.items())
    ]


def judge_libraries(found: Sequence[Replaced], now: datetime) -> Iterator[Alarm]:
    """Yield one alarm for what can be restarted, and one for what takes a reboot."""
    del now
    reboot = [entry for entry in found if _UNTOUCHABLE.fullmatch(entry.unit)]
    rest = [entry for entry in found if entry not in reboot]
    apps = sorted({entry.app for entry in rest if entry.app is not None})
    plain = [entry.unit for entry in rest if entry.app is None]
    commands = [f"bedstone restart {app}" for app in apps]
    commands += [f"systemctl restart {' '.join(plain)}"] if plain else []
    for name, entries, command in (
        ("services", rest, " && ".join(commands)),
        ("reboot", reboot, "systemctl reboot"),
    ):
        if entries:
            files = sorted({path for entry in entries for path in entry.files})
            yield Alarm(
                f"libraries/{name}",
                "warning",
                f"{_names([entry.unit for entry in entries])} run on files that an upgrade has"
                f" replaced ({_names([path.rpartition('/')[2] for path in files])})",
                f"`{command}`",
            )


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
