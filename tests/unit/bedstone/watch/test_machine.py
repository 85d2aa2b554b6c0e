"""Reboots, the clock, disks, what grows, data put aside, images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone.core import paths
from bedstone.core.errors import CommandError
from bedstone.core.process import Completed
from bedstone.ledger import database as ledger
from bedstone.postgres.server import PostgresError, Server
from bedstone.system.docker import Docker
from bedstone.system.systemd import Systemd
from bedstone.watch import images, machine
from bedstone.watch.images import Image
from bedstone.watch.machine import Clock, Former, Growth, Reboot
from tests.unit.fixtures.daily import APP
from tests.unit.fixtures.in_service import put_into_service

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MIB = 1024**2
GIB = 1024**3


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


def put(root: Path, path: str, text: str = "") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


# --- reboot ----------------------------------------------------------------------------------


def reboot(**more: Any) -> list[str]:
    known = {
        "asked_at": None,
        "packages": (),
        "running": "6.12.9-amd64",
        "installed": ("6.12.9-amd64",),
    }
    return [alarm.severity for alarm in machine.judge_reboot(Reboot(**(known | more)), NOW)]


def test_reboot_is_owed_when_a_package_or_a_newer_kernel_says_so() -> None:
    assert reboot() == []
    assert reboot(asked_at=NOW - DAY) == ["warning"]
    assert reboot(asked_at=NOW - 31 * DAY) == ["red"]
    assert reboot(installed=("6.12.9-amd64", "6.12.10-amd64")) == ["warning"]
    assert reboot(installed=("6.12.8-amd64",)) == []


def test_files_say_who_asked_and_a_container_has_no_kernel_of_its_own(root: Path) -> None:
    assert list(machine.judge_reboot(machine.gather_reboot(), NOW)) == []
    put(root, "run/reboot-required")
    put(root, "run/reboot-required.pkgs", "linux-image-amd64\nlinux-image-amd64\n")
    put(root, "boot/vmlinuz-999.0.0-amd64")
    found = machine.gather_reboot()
    assert (found.packages, found.installed) == (["linux-image-amd64"], ["999.0.0-amd64"])
    [alarm] = machine.judge_reboot(found, NOW)
    assert "linux-image-amd64 asked for it" in alarm.words
    assert "the kernel 999.0.0-amd64 is installed" in alarm.words
    put(root, "run/systemd/container", "podman")
    assert machine.gather_reboot().installed == []


# --- clock -----------------------------------------------------------------------------------


def clock(**more: Any) -> list[str]:
    known: dict[str, Any] = {
        "container": False,
        "services": {"systemd-timesyncd.service": "active"},
        "synchronized": True,
        "up": DAY,
    }
    return [alarm.severity for alarm in machine.judge_clock(Clock(**(known | more)), NOW)]


def test_clock_is_judged_where_a_service_is_to_set_it() -> None:
    assert clock() == []
    assert clock(synchronized=False) == ["warning"]
    down = {"systemd-timesyncd.service": "inactive"}
    assert clock(synchronized=False, services=down) == ["red"]
    assert clock(synchronized=False, services={}) == []
    assert clock(synchronized=False, up=timedelta(minutes=5)) == []


def test_clock_behind_the_last_entries_of_the_ledger_is_red() -> None:
    assert clock(newest=NOW + timedelta(minutes=4)) == []
    assert clock(newest=NOW + timedelta(minutes=6)) == ["red"]
    assert clock(newest=NOW + DAY, container=True, services={}) == ["red"]


def test_last_entries_of_the_ledger_say_what_the_clock_was(root: Path) -> None:
    put(root, "run/systemd/container", "podman")
    assert machine.gather_clock().newest is None
    ahead = datetime.now(UTC) + timedelta(days=400)
    with ledger.opened() as connection:
        for moment in (ahead, NOW):
            connection.execute(
                "INSERT INTO backups (app, state, started_at, finished_at)"
                " VALUES ('shop', 'succeeded', ?, ?)",
                (moment.isoformat(), moment.isoformat()),
            )
    # A later entry stands for the clock, whatever it was before.
    assert machine.gather_clock().newest == NOW
    with ledger.opened() as connection:
        connection.execute(
            "INSERT INTO arrivals (destination, app, kind, checked_at, problem, problem_since)"
            " VALUES ('offsite', 'shop', 'dump', ?, 'x', ?)",
            (NOW.isoformat(), ahead.isoformat()),
        )
    [alarm] = machine.judge_clock(machine.gather_clock(), NOW)
    assert (alarm.name, alarm.severity) == ("clock/behind", "red")


def test_clock_of_a_container_is_its_machines(root: Path) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str], **_: Any) -> Completed:
        asked.append(argv)
        said = "no\n"
        if argv[0] == "systemctl":
            said = "Id=chrony.service\nActiveState=active\nUnitFileState=enabled\n"
        return Completed(tuple(argv), 0, said, "", 0.0)

    container = put(root, "run/systemd/container", "podman")
    assert list(machine.judge_clock(machine.gather_clock(Systemd(run)), NOW)) == []
    assert asked == []
    container.unlink()
    put(root, "proc/uptime", "90000.00 1.0\n")
    [alarm] = machine.judge_clock(machine.gather_clock(Systemd(run)), NOW)
    assert (alarm.severity, alarm.check) == ("warning", "clock")
    assert "systemctl restart chrony.service" in alarm.command


# --- disks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "inodes", "expected"),
    [
        (50.0, 50.0, {}),
        (50.0, None, {}),
        (14.0, 50.0, {"disks//x": "warning"}),
        (9.0, 50.0, {"disks//x": "red"}),
        (50.0, 14.0, {"disks//x/inodes": "warning"}),
        (9.0, 4.0, {"disks//x": "red", "disks//x/inodes": "red"}),
    ],
)
def test_room_and_inodes(room: float, inodes: float | None, expected: dict[str, str]) -> None:
    disk = {
        "path": "/x",
        "holds": ["backups"],
        "free_bytes": GIB,
        "free_percent": room,
        "free_inodes_percent": inodes,
        "ok": room >= 10,
    }
    found = list(machine.judge_disks([disk], NOW))
    assert {alarm.name: alarm.severity for alarm in found} == expected
    assert all("(backups)" in alarm.words and "`du " in alarm.command for alarm in found)


# --- ledger and journal ----------------------------------------------------------------------


def growth(**more: Any) -> list[tuple[str, str]]:
    known = {
        "ledger_bytes": MIB,
        "ledger_error": None,
        "journal_bytes": MIB,
        "journal_limit": GIB,
    }
    found = machine.judge_growth(Growth(**(known | more)), NOW)
    return [(alarm.name, alarm.severity) for alarm in found]


def test_what_grows_by_itself() -> None:
    assert growth() == []
    assert growth(ledger_bytes=GIB) == [("growth/ledger", "warning")]
    assert growth(ledger_error="x") == [("growth/ledger-unreadable", "red")]
    assert growth(journal_bytes=GIB + MIB) == []
    assert growth(journal_bytes=2 * GIB) == [("growth/journal", "warning")]
    assert growth(journal_bytes=2 * GIB, journal_limit=None) == []


def test_ledger_and_journal_are_measured(root: Path) -> None:
    assert machine.gather_growth() == Growth(0, None, 0, None)
    with ledger.opened():
        pass
    put(root, "etc/systemd/journald.conf.d/10-bedstone.conf", "[Journal]\nSystemMaxUse=1024M\n")
    put(root, "var/log/journal/abc/system.journal", "x" * 10_000)
    found = machine.gather_growth()
    assert found.ledger_bytes > 0
    assert found.ledger_error is None
    assert (found.journal_limit, found.journal_bytes >= 10_000) == (GIB, True)


@pytest.mark.parametrize("damage", ["bytes", "newer"])
def test_ledger_that_cannot_be_read_is_red(damage: str) -> None:
    with ledger.opened() as connection:
        connection.execute("PRAGMA user_version = 99" if damage == "newer" else "SELECT 1")
    if damage == "bytes":
        paths.ledger().write_bytes(b"no database" * 1000)
    found = machine.gather_growth()
    assert found.ledger_error
    [alarm] = machine.judge_growth(found, NOW)
    assert alarm.severity == "red"


# --- data put aside --------------------------------------------------------------------------


def test_former_data_is_told_after_a_month_with_what_removes_it() -> None:
    recent = Former("a", NOW - 20 * DAY, 5, "x")
    old = Former("b", NOW - 40 * DAY, GIB, "`runuser -u postgres -- dropdb b`")
    [alarm] = machine.judge_former([recent, old], NOW)
    assert (alarm.severity, alarm.command) == ("warning", old.command)
    assert alarm.words == "b has been kept since a restore 40 days ago and takes 1.0 GiB"


def test_former_databases_and_media_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "srv/bedstone/shop/media_before_restore_20261001_020000").mkdir(parents=True)
    (root / "srv/bedstone/shop/media").mkdir()
    put(root, "etc/postgresql/17/main/postgresql.conf")
    settings = {
        "directory": "/b",
        "keep_days": 30,
        "keep_at_least": 3,
        "reserve_mb": 0,
        "jobs": 1,
        "socket": "/run/postgresql",
        "port": 5432,
        "databases": [],
        "media": [],
    }
    put(root, "etc/bedstone/backup.json", json.dumps({"schema": 1} | settings))
    rows = [
        ["shop_before_restore_20261002_030405", 100],
        ["shop_before_restore_99999999_999999", 1],
    ]
    monkeypatch.setattr(Server, "rows", lambda *_: rows)
    media, database = machine.gather_former() or []
    assert media.command.endswith("/srv/bedstone/shop/media_before_restore_20261001_020000`")
    assert database.since == datetime(2026, 10, 2, 3, 4, 5, tzinfo=UTC)
    assert "dropdb --host /run/postgresql --port 5432 shop_before_restore" in database.command

    def away(*_: Any) -> None:
        raise PostgresError("It is away.")

    monkeypatch.setattr(Server, "rows", away)
    assert machine.gather_former() is None, "that it is down is said by another check"


# --- images ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "made", "base", "told"),
    [
        ("build", 1, 10, False),
        ("build", 1, 100, True),
        ("build", 100, None, True),
        ("build", None, None, False),
        ("pull", 1, 900, False),
        ("pull", 100, 900, True),
    ],
)
def test_image_is_judged_by_its_base_when_it_is_built_here(
    kind: str, made: int | None, base: int | None, *, told: bool
) -> None:
    image = Image("shop", kind, *(days and NOW - days * DAY for days in (made, base)))  # type: ignore[arg-type]
    found = list(images.judge([image], NOW))
    assert [alarm.severity for alarm in found] == (["warning"] if told else [])
    if told:
        assert ("-e rebuild=true" in found[0].command) is (kind == "build")


HISTORY = """\
2026-11-19T10:00:00+02:00
2026-11-19T10:00:00+02:00
2026-05-01T00:00:00Z
"""


@pytest.mark.parametrize(
    ("lines", "base"),
    [(HISTORY, datetime(2026, 5, 1, tzinfo=UTC)), (HISTORY + "1970-01-01T00:00:00Z\n", None)],
)
def test_lowest_layer_dates_the_base_unless_its_date_is_made_up(
    lines: str, base: datetime | None
) -> None:
    put_into_service(APP | {"image": {"kind": "pull", "reference": "example/shop:1"}})

    def run(argv: Sequence[str], **_: Any) -> Completed:
        assert argv[:2] == ["docker", "history"]
        return Completed(tuple(argv), 0, lines, "", 0.0)

    [image] = images.gather(Docker(run), Systemd(run)) or []
    assert (image.app, image.kind, image.base) == ("shop", "pull", base)
    assert image.made == datetime(2026, 11, 19, 8, tzinfo=UTC)


@pytest.mark.parametrize("state", ["active", "inactive"])
def test_docker_that_is_down_is_another_checks_and_one_that_hangs_is_this_ones(state: str) -> None:
    put_into_service()

    def run(argv: Sequence[str], **_: Any) -> Completed:
        if argv[0] == "docker":
            raise CommandError("Docker doesn't answer", returncode=1, output="")
        return Completed(tuple(argv), 0, f"{state}\n", "", 0.0)

    if state == "active":
        with pytest.raises(CommandError):
            images.gather(Docker(run), Systemd(run))
    else:
        assert images.gather(Docker(run), Systemd(run)) is None


def test_no_app_asks_docker_nothing() -> None:
    assert images.gather(Docker(), Systemd()) == []
    assert os.environ["BEDSTONE_ROOT"]
