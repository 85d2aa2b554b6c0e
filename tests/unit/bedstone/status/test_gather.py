"""`bedstone status`: the picture, and how it is shown."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone import watch
from bedstone.apps import config, health, maintenance, slots
from bedstone.apps.slots import Slot
from bedstone.backup import status as backups
from bedstone.cli import main
from bedstone.core import lock, parallel, paths
from bedstone.core.errors import CommandError
from bedstone.core.process import Completed
from bedstone.core.terminal import Paint
from bedstone.ledger import backups as backup_history
from bedstone.ledger import database, releases
from bedstone.ledger.releases import NewRelease, StepRow
from bedstone.notify.alarms import Alarm
from bedstone.status import gather, images
from bedstone.status import screen as drawn
from bedstone.status.gather import Tools
from bedstone.system.docker import Docker
from bedstone.system.http_check import Answer
from bedstone.system.systemd import Systemd
from bedstone.watch import disks
from tests.unit.fixtures.daily import APP
from tests.unit.fixtures.in_service import MADE, RELEASE, put_into_service

WEB, WORKER = "bedstone-shop-web@blue.service", "bedstone-shop-worker@1.service"
CLEAN, REPORT = "bedstone-shop-job-clean", "bedstone-shop-job-report"


def moment(**ago: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**ago):%a %Y-%m-%d %H:%M:%S} UTC"


class World:
    """What systemd and Docker answer; `units` may be changed by a test."""

    def __init__(self) -> None:
        up = {
            "ActiveState": "active",
            "SubState": "running",
            "NRestarts": "0",
            "ActiveEnterTimestamp": moment(hours=3),
        }
        job = {"LoadState": "loaded", "ActiveState": "inactive", "Result": "success"}
        ran = {
            "ExecMainStartTimestamp": moment(hours=2),
            "ExecMainExitTimestamp": moment(hours=2),
            "ExecMainStatus": "0",
        }
        self.units: dict[str, dict[str, str]] = {
            WEB: dict(up),
            WORKER: dict(up),
            f"{CLEAN}.service": job | ran,
            f"{CLEAN}.timer": {"NextElapseUSecRealtime": moment(hours=-4.5)},
            f"{REPORT}.service": dict(job),
        }
        self.answer = Answer(ok=True, said="GET /health/ answered 200")
        self.asked: list[tuple[str, str, str]] = []
        self.docker_works = True
        self.diff = ""
        self.alarms: list[Alarm] = []

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        words = list(argv)
        if words[0] == "systemctl":
            said = "\n\n".join(
                "\n".join(f"{k}={v}" for k, v in ({"Id": unit} | self.units.get(unit, {})).items())
                for unit in words[4:]
            )
        elif not self.docker_works:
            raise CommandError("Docker doesn't answer", returncode=1, output="")
        elif words[1] == "diff":
            said = self.diff
        elif words[1] == "ps":
            said = "bedstone-shop-web-blue\n"
        elif words[1:3] == ["image", "ls"]:
            said = f"{RELEASE} sha256:{'1' * 64}\nr0 sha256:{'2' * 64}\nr00 sha256:{'1' * 64}\n"
        else:
            said = json.dumps(
                [
                    {"ID": f"sha256:{'1' * 64}", "UniqueSize": "10MB", "SharedSize": "1.5GB"},
                    {"ID": f"sha256:{'2' * 64}", "UniqueSize": "632.1kB", "SharedSize": "1.5GB"},
                    {"ID": f"sha256:{'3' * 64}", "UniqueSize": "9GB", "SharedSize": "0B"},
                ]
            )
        return Completed(tuple(words), 0, said, "", 0.0)

    def asks(self, address: str, service: Any, domain: str) -> Answer:
        self.asked.append((address, service.name, domain))
        return self.answer

    def look(self, **_: Any) -> watch.Look:
        return watch.Look(datetime.now(UTC), self.alarms, [])

    def tools(self, seconds: float = 8) -> Tools:
        return Tools(Systemd(self), Docker(self), self.asks, seconds, alarms=self.look)


@pytest.fixture
def world(declared: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A server with the app in service, all well."""
    del declared
    put_into_service()
    slots.write("shop", Slot("web", "blue", RELEASE, MADE, "172.20.0.129"))
    world = World()
    monkeypatch.setattr(gather, "Tools", world.tools)
    return world


def shown(world: World) -> dict[str, Any]:
    picture = gather.gather(world.tools())
    app: dict[str, Any] = picture["apps"][0]
    return app


def screen(capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main.main(["status"]) == code
    return capsys.readouterr().out


DIFF = """\
C /app
A /app/data
A /app/data/one.db
A /app/data/two.db
A /app/__pycache__
A /app/__pycache__/web.pyc
C /var
A /var/cache/thumbs.jpg
A /run/web.pid
"""


def test_what_is_written_where_no_setting_keeps_it_is_named(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.diff = DIFF
    assert shown(world)["written"] == [], "its containers are read-only"
    kept = paths.release("shop", RELEASE) / "app.json"
    kept.write_text(json.dumps(APP | {"read_only": False}))
    # The web's container and the worker's say the same here.
    assert shown(world)["written"] == [
        {"directory": "/app/data", "files": 4},
        {"directory": "/var/cache", "files": 2},
    ]
    said = screen(capsys)
    assert (
        "files that the next release drops, in /app/data (4), /var/cache (2): `media` keeps" in said
    )


# --- services ---------------------------------------------------------------------------------


def test_all_well_is_one_screen_without_a_word_of_alarm(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    said = screen(capsys)
    assert f"shop: release {RELEASE}, for less than a minute, slot blue\n" in said
    assert "  https://shop.example.com/\n" in said
    assert "  up   web@blue         GET /health/ answered 200, for 3 hours\n" in said
    assert "  up   worker@1         active (running), for 3 hours\n" in said
    assert "  job     clean         succeeded 2 hours ago, next in 4 hours\n" in said
    assert "  job     report        never ran" in said
    assert "  images  3 kept, 1.4 GiB" in said
    assert "Needs attention" not in said
    assert "\x1b" not in said
    assert world.asked == [("172.20.0.129", "web", "shop.example.com")]


def test_service_that_is_down_or_ill_is_seen_and_counts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.units[WORKER] |= {"ActiveState": "failed", "SubState": "failed", "NRestarts": "12"}
    world.answer = Answer(ok=False, said="GET /health/ answered 503")
    said = screen(capsys, 1)
    assert f"  DOWN web@blue         GET /health/ answered 503; `journalctl -u {WEB} -n 50`" in said
    assert f"  DOWN worker@1         failed (failed); `journalctl -u {WORKER} -n 50`" in said
    assert "restarted 12 times" in said
    assert said.endswith(
        "Needs attention:\n"
        "  shop: web@blue isn't healthy: GET /health/ answered 503\n"
        "  shop: worker@1 doesn't run: failed (failed)\n"
    )


def test_service_that_never_answers_holds_nothing_up(world: World) -> None:
    released = threading.Event()

    def hang(*_: Any) -> Answer:
        released.wait(60)
        return world.answer

    picture = gather.gather(Tools(Systemd(world), Docker(world), hang, 2))
    released.set()
    web = picture["apps"][0]["services"][0]
    assert (web["ok"], web["health"]["said"]) == (False, "it didn't answer in time")
    assert picture["apps"][0]["images"] is not None, "the rest is there"


def test_docker_that_does_not_answer_is_told_and_counts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.docker_works = False
    app = shown(world)
    assert (app["ok"], app["images"]) == (True, None)
    assert "  Docker doesn't answer: `systemctl status docker`\n" in screen(capsys, 1)


def test_app_that_is_not_released_counts(
    declared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del declared
    said = screen(capsys, 1)
    assert "shop: not released yet" in said
    assert "shop: it isn't released" in said


def test_damaged_files_are_told(
    world: World, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del world
    (root / f"var/lib/bedstone/apps/shop/releases/{RELEASE}/app.json").write_text("{")
    assert "isn't JSON" in screen(capsys, 1)


def test_server_without_apps_says_just_that(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del root
    monkeypatch.setattr(gather, "Tools", World().tools)
    assert screen(capsys) == "No app is declared on this server.\n"


def test_real_question_goes_to_the_health_path_or_the_port(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    del world
    asked: list[tuple[Any, ...]] = []

    def answer(*arguments: Any, seconds: float, accepted: tuple[int, ...] = ()) -> Answer:
        del accepted
        asked.append((*arguments, seconds))
        return Answer(ok=True, said="")

    monkeypatch.setattr("bedstone.system.http_check.service", answer)
    monkeypatch.setattr("bedstone.system.http_check.port", answer)
    web = config.load("shop").services["web"]
    health.ask("10.0.0.1", web, "example.com")
    health.ask("10.0.0.1", dataclasses.replace(web, health=None), "example.com")
    assert asked == [
        ("10.0.0.1", 8000, "/health/", "example.com", health.PROBE_SECONDS),
        ("10.0.0.1", 8000, health.PROBE_SECONDS),
    ]


# --- jobs, maintenance, images ----------------------------------------------------------------


def test_jobs_that_failed_or_are_missing_are_seen(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.units[f"{CLEAN}.service"] |= {"Result": "timeout", "ExecMainStatus": "143"}
    world.units[f"{REPORT}.service"] = {"LoadState": "not-found"}
    said = screen(capsys)
    assert (
        "clean         FAILED 2 hours ago: took longer than it may;"
        f" `journalctl -u {CLEAN}.service`, next in 4 hours" in said
    )
    assert "report        not installed: run site.yml" in said
    assert "shop: the job clean failed\n  shop: the job report isn't installed" in said


def test_job_that_runs_is_no_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.units[f"{CLEAN}.service"] |= {"ActiveState": "activating", "Result": "success"}
    assert "clean         runs for 2 hours" in screen(capsys)


def test_maintenance_is_seen(world: World, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del world
    sites = root / "etc/nginx/bedstone/sites"
    sites.mkdir(parents=True)
    (sites / "shop.conf").write_text("")
    maintenance.turn_on("shop", "x")
    assert f"  MAINTENANCE since {datetime.now(UTC):%Y-%m-%d}" in screen(capsys)


@pytest.mark.parametrize(
    ("said", "size"),
    [("0B", 0), ("632.1kB", 632_100), ("1.09GB", 1_090_000_000), ("N/A", 0), (None, 0)],
)
def test_dockers_sizes_are_read(said: str | None, size: int) -> None:
    assert images.size_of(said) == size


def test_shared_layers_are_counted_once(world: World) -> None:
    assert images.usage(Docker(world), ["shop"]) == {
        "shop": {"kept": 3, "bytes": 10_000_000 + 632_100 + 1_500_000_000}
    }


# --- operations -------------------------------------------------------------------------------


def fail(step: str, error: str, details: str = "", hint: str | None = None) -> str:
    with database.opened() as connection:
        release, operation = releases.begin(connection, "shop", NewRelease("v2", "f"), "anna")
        releases.step(connection, operation, StepRow(1, step, "failed", 1.0, error))
        releases.fail(connection, operation, step, error, hint=hint, details=details)
    return release


def test_failed_release_is_told_with_why_and_where_to_look(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    del world
    release = fail(
        "migrate",
        "`manage migrate` failed in the image: exit code 1.\nmore",
        "Applying 0001... OK\nERROR: relation exists\nLINE 1",
        "Look at it.",
    )
    said = screen(capsys)
    assert (
        f"  last    release {release} failed at migrate: `manage migrate` failed in the image:"
        " exit code 1.\n"
        "          less than a minute ago by anna\n"
        "          | ERROR: relation exists\n"
        "          | LINE 1\n"
        "          hint: Look at it.\n"
        "          more: `journalctl -u bedstone-operation@shop`\n" in said
    )
    assert "shop: the last release failed at migrate" in said


def test_only_the_newest_failure_is_an_alarm_and_three_are_shown(world: World) -> None:
    for number in range(4):
        fail("check", f"broken {number}")
    with database.opened() as connection:
        operation = releases.begin_operation(connection, "shop", "restart", RELEASE, "ben")
        releases.commit(connection, "shop", RELEASE, "blue", operation)
    app = shown(world)
    assert [entry["kind"] for entry in app["operations"]] == ["restart", "release", "release"]
    assert app["problems"] == []


@pytest.mark.parametrize("alive", [True, False])
def test_running_operation_is_told_with_its_step_or_as_interrupted(
    world: World, capsys: pytest.CaptureFixture[str], *, alive: bool
) -> None:
    del world
    with database.opened() as connection:
        release, _ = releases.begin(connection, "shop", NewRelease("v2", "f"), "anna")
    if alive:
        with lock.held("shop", "bedstone release shop") as held:
            held.beat("migrate")
            said = screen(capsys)
        assert "  NOW `bedstone release shop` by " in said
        assert ", at migrate for less than a minute" in said
        assert f"release {release} is on its way" in said
    else:
        said = screen(capsys)
        assert f"release {release} was interrupted" in said
        assert "`bedstone settle` puts it right" in said


def test_age_is_that_of_the_switch_and_not_of_a_restart(world: World) -> None:
    with database.opened() as connection:
        switched = releases.begin_operation(connection, "shop", "rollback", RELEASE)
        releases.commit(connection, "shop", RELEASE, "green", switched)
        restarted = releases.begin_operation(connection, "shop", "restart", RELEASE)
        releases.commit(connection, "shop", RELEASE, "blue", restarted)
        moments = {
            entry.kind: entry.finished_at for entry in releases.operations(connection, "shop")
        }
    assert shown(world)["since"] == moments["rollback"]


# --- backups and disks ------------------------------------------------------------------------


@pytest.fixture
def backed_up(root: Path) -> Path:
    """Settings of backups; returns the app's directory."""
    directory = root / "var/backups/bedstone"
    (root / "etc/bedstone").mkdir(parents=True, exist_ok=True)
    (root / "etc/bedstone/backup.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "directory": "/var/backups/bedstone",
                "keep_days": 30,
                "keep_at_least": 3,
                "reserve_mb": 1,
                "jobs": 1,
                "socket": "/run/postgresql",
                "port": 5432,
                "databases": [{"app": "shop", "name": "shop", "owner": "shop"}],
                "media": [],
            }
        )
    )
    (directory / "shop").mkdir(parents=True)
    return directory / "shop"


class _Backup:
    name = "backup_20261120_020000"

    def __init__(self, hours: float) -> None:
        self.age = timedelta(hours=hours)


@pytest.mark.parametrize(
    ("hours", "first_hours", "failed", "problem"),
    [
        (5, 100, False, None),
        (27, 100, False, "the last backup is 1 day old"),
        (5, 100, True, "the last backup failed: no space"),
        (None, 5, False, None),
        (None, 30, False, "there is no backup yet: `bedstone backup shop` makes one"),
        (None, None, False, None),
    ],
)
def test_backup_that_is_old_failed_or_missing_is_a_problem(
    backed_up: Path,
    monkeypatch: pytest.MonkeyPatch,
    hours: float | None,
    first_hours: float | None,
    problem: str | None,
    *,
    failed: bool,
) -> None:
    del backed_up
    found = None if hours is None else _Backup(hours)
    monkeypatch.setattr("bedstone.backup.catalog.newest", lambda _: found)
    now = datetime.now(UTC)
    if failed:
        backup_history.failed("shop", None, now, "no space\nleft")
    first = (now - timedelta(hours=first_hours)).isoformat() if first_hours else None
    shown = backups.app_status("shop", first)
    assert shown is not None
    assert (shown["problem"], shown["ok"]) == (problem, problem is None)


def test_app_without_data_or_server_without_backups_has_none(root: Path, backed_up: Path) -> None:
    assert backups.app_status("wiki", None) is None
    (root / "etc/bedstone/backup.json").unlink()
    assert backups.app_status("shop", None) is None
    del backed_up


def test_backup_is_on_the_screen(
    world: World,
    backed_up: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del world, backed_up
    monkeypatch.setattr("bedstone.backup.catalog.newest", lambda _: _Backup(50))
    said = screen(capsys)
    assert "  backup  backup_20261120_020000, 2 days ago; the last backup is 2 days old" in said
    assert "shop: the last backup is 2 days old" in said


@pytest.mark.parametrize(("free", "ok"), [(9, False), (10, True)])
def test_nearly_full_disk_is_a_problem(
    root: Path,
    backed_up: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    *,
    ok: bool,
) -> None:
    del backed_up
    for path in ("var/lib/docker", "var/lib/postgresql", "var/lib/pgbackrest"):
        (root / path).mkdir(parents=True)
    status = os.statvfs_result((4096, 1024 * 1024, 100, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    [disk] = disks.usage()
    found = ["the system", "Docker", "the database", "the archived log", "backups"]
    assert disk["holds"] == found, "one file system, told once"
    assert (disk["free_percent"], disk["ok"]) == (float(free), ok)


# --- how it is shown --------------------------------------------------------------------------


def test_json_has_every_documented_key(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    del world
    assert main.main(["status", "--json"]) == 0
    picture = json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main.main(["status", "--help"])
    described = capsys.readouterr().out
    for key in [*picture, *picture["apps"][0]]:
        assert f'"{key}"' in described
    assert set(picture["apps"][0]) == {
        "app", "ok", "problems", "error", "release", "version", "slot", "since", "domains",
        "maintenance_since", "services", "jobs", "running", "operations", "images", "backup",
        "written", "copies", "verification",
    }  # fmt: skip


def test_colour_is_for_terminals_and_those_who_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Paint().on
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Paint().on
    assert Paint()("red", "x") == "\x1b[31mx\x1b[0m"
    assert Paint()("plain", "x") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Paint().on
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Paint().on


def test_failure_is_red(world: World) -> None:
    world.units[WORKER]["ActiveState"] = "failed"
    text = drawn.render(gather.gather(world.tools()), Paint(on=True))
    assert "\x1b[31mDOWN\x1b[0m worker@1" in text
    assert "\x1b[31mNeeds attention:\x1b[0m" in text


def test_question_that_fails_is_missing_and_the_others_are_there() -> None:
    def fails() -> None:
        raise RuntimeError

    assert parallel.run({"a": lambda: 1, "b": fails}, 5) == {"a": 1}


@pytest.mark.usefixtures("world")
def test_one_app_is_shown_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "shop"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("shop: release ")
    assert "PostgreSQL" not in shown
    assert main.main(["status", "shoop"]) == 1
    assert "There are: shop" in capsys.readouterr().err
