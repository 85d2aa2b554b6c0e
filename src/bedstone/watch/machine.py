"""Check the machine: pending reboots, the clock, disk space, and files that grow."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.core import age, clock, paths
from bedstone.core import disk as space
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, observations
from bedstone.notify.alarms import Alarm
from bedstone.postgres import queries
from bedstone.postgres.debian_cluster import all_clusters
from bedstone.postgres.server import PostgresError, Server
from bedstone.system.systemd import Systemd
from bedstone.watch import disks
from bedstone.watch.units import in_container

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SECONDS = 15.0
# A kernel's fix waits for a quiet night, not for a year.
REBOOT_RED_AFTER = timedelta(days=30)
# Time services need some minutes after a boot.
CLOCK_AFTER = timedelta(minutes=30)
FORMER_AFTER = timedelta(days=30)
LEDGER_BYTES = 256 * 1024**2
# Files of the journal are rotated, not cut: it may be a little larger than its limit.
JOURNAL_SHARE = 1.25
WARN_PERCENT = 15
LEDGER_ALARM = "growth/ledger-unreadable"
_FORMER = re.compile(r"(.+)_before_restore_(\d{8}_\d{6})")
_MOMENT = "%Y%m%d_%H%M%S"
_KERNEL = re.compile(r"vmlinuz-(.+)")
_LIMIT = re.compile(r"^\s*SystemMaxUse\s*=\s*(\d+)([KMGT]?)", re.MULTILINE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_TIME_SERVICES = ("systemd-timesyncd.service", "chrony.service", "ntpsec.service")


# --- Reboot --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reboot:
    """The facts for a reboot: whether the running kernel is the newest.

    Attributes:
        asked_at: when a package has asked for a reboot.
        packages: those that have.
        running: the kernel that runs.
        installed: the kernels in /boot.

    """

    asked_at: datetime | None
    packages: Sequence[str]
    running: str
    installed: Sequence[str]


def gather_reboot() -> Reboot:
    """Read what packages left in /run, and which kernels are in /boot."""
    asked, names = paths.host("/run/reboot-required"), paths.host("/run/reboot-required.pkgs")
    packages = sorted(set(names.read_text(encoding="utf-8").split())) if names.exists() else []
    kernels: list[str] = []
    # A container runs its machine's kernel.
    if not in_container():
        found = (_KERNEL.fullmatch(path.name) for path in paths.host("/boot").glob("vmlinuz-*"))
        kernels = [match[1] for match in found if match]
    moment = datetime.fromtimestamp(asked.stat().st_mtime, UTC) if asked.exists() else None
    return Reboot(moment, packages, os.uname().release, kernels)


def judge_reboot(found: Reboot, now: datetime) -> Iterator[Alarm]:
    """Yield whether the server has to be rebooted."""
    newest = max(found.installed, key=_version, default="")
    older = bool(newest) and _version(newest) > _version(found.running)
    if found.asked_at is None and not older:
        return
    why = f"the kernel {newest} is installed and {found.running} runs" if older else ""
    if found.asked_at is not None:
        ago = age.humanize((now - found.asked_at).total_seconds())
        asked = f"{', '.join(found.packages) or 'a package'} asked for it {ago} ago"
        why = f"{asked}; {why}" if why else asked
    late = found.asked_at is not None and now - found.asked_at > REBOOT_RED_AFTER
    yield Alarm(
        "reboot/required",
        "red" if late else "warning",
        f"this server has to be rebooted: {why}",
        "`systemctl reboot`, at a quiet time",
    )


def _version(kernel: str) -> tuple[tuple[int, int | str], ...]:
    parts = re.findall(r"\d+|[a-z]+", kernel)
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in parts)


# --- Clock ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """The state of the clock's synchronization.

    Attributes:
        container: whether the clock is the machine's.
        services: the time services that are to run, with systemd's word for each.
        synchronized: what the kernel says.
        up: for how long the server has run.
        newest: the latest moment in the last entries of the ledger.

    """

    container: bool
    services: Mapping[str, str]
    synchronized: bool
    up: timedelta
    newest: datetime | None = None


def gather_clock(manager: Systemd | None = None) -> Clock:
    """Ask systemd and the kernel (through timedatectl) whether the clock is set."""
    newest = None
    # An unreadable ledger is an alarm of another check.
    with suppress(BedstoneError, sqlite3.Error), database.opened() as connection:
        newest = observations.newest_entry(connection)
    if in_container():
        return Clock(True, {}, False, timedelta(), newest)
    manager = manager or Systemd()
    shown = manager.properties(_TIME_SERVICES, ("ActiveState", "UnitFileState"), timeout=_SECONDS)
    services = {
        unit: state.get("ActiveState", "")
        for unit, state in shown.items()
        if state.get("UnitFileState") == "enabled"
    }
    synchronized = bool(services) and manager.clock_is_synchronized(timeout=_SECONDS)
    seconds = float(paths.host("/proc/uptime").read_text(encoding="ascii").split()[0])
    return Clock(False, services, synchronized, timedelta(seconds=seconds), newest)


def judge_clock(found: Clock, now: datetime) -> Iterator[Alarm]:
    """Yield what is wrong with the clock; a missing time service is a decision."""
    if found.newest is not None and clock.is_ahead(found.newest, now):
        behind = age.humanize((found.newest - now).total_seconds())
        yield Alarm(
            "clock/behind",
            "red",
            f"this server's clock is {behind} behind the last entries of the ledger: it was ahead,"
            " or is wrong now, and ages of backups and alarms can't be judged",
            "`timedatectl` shows the clock; if it is right, `bedstone destinations --check` and the"
            " next backup end this",
        )
    if found.container or not found.services or found.up < CLOCK_AFTER:
        return
    service = next(iter(found.services))
    if not found.synchronized:
        runs = "active" in found.services.values()
        why = "no time server answers" if runs else f"{service} doesn't run"
        yield Alarm(
            "clock/synchronized",
            "warning" if runs else "red",
            f"this server's clock isn't synchronized: {why}. Backups and certificates are judged"
            " by it",
            f"`systemctl restart {service}`, then `journalctl -u {service} -n 50`",
        )


# --- Room ----------------------------------------------------------------------------------------


def judge_disks(found: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Alarm]:
    """Yield which disks run out of space or of inodes."""
    del now
    for disk in found:
        path, holds = disk["path"], ", ".join(disk["holds"])
        help_ = f"`du -xh --max-depth=2 {path} | sort -h | tail` shows what takes it"
        if disk["free_percent"] < WARN_PERCENT:
            yield Alarm(
                f"disks/{path}",
                "warning" if disk["ok"] else "red",
                f"only {space.human(disk['free_bytes'])} ({disk['free_percent']:.0f} %) is free at"
                f" {path} ({holds})",
                help_,
            )
        if disk["free_inodes_percent"] is not None and (disk["free_inodes_percent"] < WARN_PERCENT):
            yield Alarm(
                f"disks/{path}/inodes",
                "red" if disk["free_inodes_percent"] < disks.LEAST_PERCENT else "warning",
                f"only {disk['free_inodes_percent']:.0f} % of the inodes are free at {path}"
                f" ({holds}): no file can be made when they are used up",
                f"`du -x --inodes --max-depth=2 {path} | sort -n | tail` shows what takes them",
            )


# --- What grows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growth:
    """The size of files that grow.

    Attributes:
        ledger_bytes: size of the ledger.
        ledger_error: why it can't be read, and what mends it.
        journal_bytes: size of journald's files.
        journal_limit: what it may take; None when nothing is set.

    """

    ledger_bytes: int
    ledger_error: str | None
    journal_bytes: int
    journal_limit: int | None


def gather_growth() -> Growth:
    """Measure the ledger and the journal, and see whether the ledger can be read."""
    path = paths.ledger()
    size = path.stat().st_size if path.exists() else 0
    error = database.problem()
    limit = None
    for file in sorted(paths.host("/etc/systemd/journald.conf.d").glob("*.conf")):
        for number, unit in _LIMIT.findall(file.read_text(encoding="utf-8")):
            limit = int(number) * _UNITS[unit]
    used = 0
    for entry in paths.host("/var/log/journal").rglob("*.journal*"):
        try:
            used += entry.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return Growth(size, error, used, limit)


def judge_growth(found: Growth, now: datetime) -> Iterator[Alarm]:
    """Yield what has grown too large, and a ledger that can't be read."""
    del now
    if found.ledger_error:
        yield Alarm(
            LEDGER_ALARM,
            "red",
            found.ledger_error.rstrip("."),
            "the apps serve on without it, `bedstone ledger rebuild` makes it from kept files",
        )
    elif found.ledger_bytes > LEDGER_BYTES:
        yield Alarm(
            "growth/ledger",
            "warning",
            f"the ledger takes {space.human(found.ledger_bytes)}",
            f"`sqlite3 {paths.ledger()} VACUUM` (package sqlite3), while nothing is released",
        )
    if found.journal_limit and found.journal_bytes > JOURNAL_SHARE * found.journal_limit:
        limit = space.human(found.journal_limit)
        yield Alarm(
            "growth/journal",
            "warning",
            f"the journal takes {space.human(found.journal_bytes)}, more than the {limit} it may",
            f"`journalctl --rotate --vacuum-size={found.journal_limit // 1024**2}M`",
        )


# --- Former data ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Former:
    """Data that a restore has put aside.

    Attributes:
        name: of the database, or the directory.
        since: when.
        bytes: its size; None: not measured.
        command: what removes it.

    """

    name: str
    since: datetime
    bytes: int | None
    command: str


def gather_former() -> list[Former] | None:
    """Return the databases and media that were put aside; None while PostgreSQL doesn't answer."""
    found = [
        Former(str(path), moment, None, f"`rm -r {path}`")
        for path in paths.host("/srv/bedstone").glob("*/*_before_restore_*")
        if (moment := _put_aside(path.name))
    ]
    if not backup_settings.path().exists() or not all_clusters():
        return found
    settings = backup_settings.load()
    try:
        rows = queries.set_aside_sizes(Server(settings.socket, settings.port))
    except PostgresError:
        # That it is down is said by the check of the services.
        return None
    connection = f"--host {settings.socket} --port {settings.port}"
    for name, size in rows:
        if moment := _put_aside(name):
            command = f"`runuser -u postgres -- dropdb {connection} {name}`"
            found.append(Former(name, moment, int(size), command))
    return found


def judge_former(found: Sequence[Former], now: datetime) -> Iterator[Alarm]:
    """Yield what was put aside long ago and is still there."""
    for entry in found:
        if now - entry.since > FORMER_AFTER:
            takes = f" and takes {space.human(entry.bytes)}" if entry.bytes is not None else ""
            yield Alarm(
                f"former/{entry.name}",
                "warning",
                f"{entry.name} has been kept since a restore"
                f" {age.humanize((now - entry.since).total_seconds())} ago{takes}",
                entry.command,
            )


def _put_aside(name: str) -> datetime | None:
    found = _FORMER.fullmatch(name)
    if not found:
        return None
    try:
        return datetime.strptime(found[2], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None
