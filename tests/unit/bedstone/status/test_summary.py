"""The daily summary: what it has, in which order, and who gets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone import watch
from bedstone.cli import main
from bedstone.core import paths
from bedstone.ledger import database, releases
from bedstone.ledger.releases import NewRelease
from bedstone.notify import alarms, text
from bedstone.notify.alarms import Alarm
from bedstone.status import gather, summary
from bedstone.status.summary import Happened
from tests.unit.bedstone.status.test_gather import World
from tests.unit.fixtures.in_service import RELEASE, put_into_service

NOW = datetime(2026, 11, 30, 7, 0, tzinfo=UTC)
AGED = {"age_seconds": 4 * 3600.0, "problem": None}
QUIET: dict[str, Any] = {
    "problems": [],
    "alarms": [],
    "apps": [
        {
            "app": "shop",
            "release": "r2",
            "since": None,
            "services": [{"service": "web", "ok": True}],
            "jobs": [{"job": "clean", "result": "succeeded"}],
            "backup": {"newest": "b1", **AGED},
            "copies": {"newest": "b1", "destination": "offsite", **AGED},
            "verification": {"verified_at": "2026-11-29T07:00:00+00:00", "age_seconds": 86400.0},
        }
    ],
    "disks": [{"path": "/", "bytes": 80 * 1024**3, "free_bytes": 41 * 1024**3, "free_percent": 51}],
    "database": None,
    "wal": None,
    "certificates": [
        {"subject": f"{name}.example.com", "place": "p", "ends_at": f"2027-01-{day:02}T07:00:00Z"}
        for name, day in (("b", 9), ("a", 4), ("a", 4))
    ],
}
RELEASED = {
    "kind": "release",
    "release": "r2",
    "state": "succeeded",
    "started_at": "2026-11-29T10:31:00+00:00",
    "finished_at": "2026-11-29T10:31:45+00:00",
    "failed_step": None,
    "caller": "alice",
}


def composed(day: Happened | None = None, **changed: Any) -> list[str]:
    event = summary.compose({**QUIET, **changed}, day or Happened(), NOW)
    assert event.kind == "summary"
    return [event.title, *event.details.splitlines()]


def test_quiet_day_is_all_of_it_in_short_lines() -> None:
    assert composed(Happened({"shop": [RELEASED]})) == [
        "Daily summary: all is well.",
        "Mon 2026-11-30 07:00 UTC, the last 24 hours",
        "",
        "shop",
        "- release r2 serves",
        "- 10:31 release r2 succeeded in 45 s, by alice",
        "- backup: 4 hours ago",
        "- copy at offsite: 4 hours ago",
        "- verified by a restore: 1 day ago",
        "",
        "Server",
        "- /: 41.0 GiB of 80.0 GiB free (51 %)",
        "- certificate a.example.com: 35 days left",
        "- certificate b.example.com: 40 days left",
    ]


def test_what_needs_attention_comes_first() -> None:
    warning = Alarm("reboot/required", "warning", "this server has to be rebooted", "`reboot`")
    lines = composed(
        Happened(ended=["web was down"]),
        problems=["shop: the last release failed at migrate"],
        alarms=[warning.as_json()],
    )
    assert lines[0] == "Daily summary: 1 thing to mend."
    assert lines[3:10] == [
        "Needs attention",
        "- shop: the last release failed at migrate",
        "",
        "Warnings",
        "- this server has to be rebooted: `reboot`",
        "",
        "Over since yesterday",
    ]
    assert composed(alarms=[warning.as_json()])[0] == "Daily summary: all is up, 1 warning."


def test_alarms_that_were_not_judged_are_no_silence() -> None:
    lines = composed(alarms=None)
    assert "- the alarms couldn't be judged: `bedstone alarms`" in lines
    assert lines[0] != "Daily summary: all is well."


def test_app_that_was_never_released_or_backed_up_is_told_so() -> None:
    app = {
        **QUIET["apps"][0],
        "release": None,
        "services": [{"service": "web", "ok": False}],
        "jobs": [{"job": "clean", "result": "failed"}],
        "backup": {"newest": None, "age_seconds": None},
        "copies": None,
        "verification": None,
    }
    lines = composed(apps=[app])
    assert lines[4:9] == [
        "- not released",
        "- down: web",
        "- nothing released",
        "- failed jobs: clean",
        "- backup: not yet",
    ]


def test_many_releases_are_counted() -> None:
    failed = {**RELEASED, "state": "failed", "failed_step": "migrate", "caller": None}
    lines = composed(Happened({"shop": [failed] * 13}))
    assert lines.count("- 10:31 release r2 failed at migrate") == 10
    assert "- and 3 more before" in lines


@pytest.fixture
def world(declared: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A server with the app in service, all well."""
    del declared
    put_into_service()
    world = World()
    tools = world.tools()
    monkeypatch.setattr(gather, "Tools", lambda **_: tools)
    return world


def test_day_has_its_releases_and_no_older_ones(world: World) -> None:
    with database.opened() as connection:
        release, _ = releases.begin(connection, "shop", NewRelease("v2", "f"), "anna")
    picture = gather.gather(world.tools())
    now = datetime.now(UTC)
    (operation,) = summary.happened(picture, now).operations["shop"]
    assert (operation["release"], operation["caller"]) == (release, "anna")
    assert summary.happened(picture, now + timedelta(hours=25)).operations["shop"] == []


def test_damaged_ledger_leaves_the_rest(world: World) -> None:
    picture = gather.gather(world.tools())
    paths.ledger().write_bytes(b"x" * 4096)
    assert summary.happened(picture, datetime.now(UTC)).operations == {}


def test_alarm_that_is_over_is_told_for_a_day(root: Path) -> None:
    del root
    alarm = Alarm("units/web", "red", "web is down", "`systemctl start web`")
    alarms.remember(watch.SCOPE, alarms.news(watch.SCOPE, [alarm]), begun=True, over=True)
    for _ in range(alarms.MISSING_LOOKS):
        alarms.remember(watch.SCOPE, alarms.news(watch.SCOPE, []), begun=True, over=True)
    now = datetime.now(UTC)
    assert alarms.ended(watch.SCOPE, now - timedelta(days=1)) == ["web is down"]
    assert alarms.ended(watch.SCOPE, now + timedelta(minutes=1)) == []
    # One that was never reported is not reported as over.
    alarms.remember(watch.SCOPE, alarms.news(watch.SCOPE, [alarm]), begun=False, over=True)
    for _ in range(alarms.MISSING_LOOKS):
        alarms.remember(watch.SCOPE, alarms.news(watch.SCOPE, []), begun=True, over=True)
    assert alarms.ended(watch.SCOPE, now - timedelta(days=1)) == ["web is down"]
    path = alarms.path(watch.SCOPE)
    path.write_text(json.dumps({"schema": 1, "told": {}, "ended": [{"at": "x", "words": "y"}]}))
    assert alarms.ended(watch.SCOPE, now - timedelta(days=1)) == []
    path.write_text("{")
    assert alarms.ended(watch.SCOPE, now - timedelta(days=1)) == []


def test_command_prints_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    del world
    assert main.main(["summary"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Daily summary: ")
    assert f"- release {RELEASE} serves" in printed


def hooked(root: Path, *hooks: dict[str, Any]) -> None:
    path = root / "etc/bedstone/hooks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": 1, "mail": None, "hooks": list(hooks)}))


def test_hooks_with_the_event_get_all_of_it(world: World, root: Path, tmp_path: Path) -> None:
    del world
    mine, others = tmp_path / "mine", tmp_path / "others"
    hooked(
        root,
        {"events": ["summary"], "command": ["/usr/bin/tee", str(mine)]},
        {"events": ["release", "failure"], "command": ["/usr/bin/tee", str(others)]},
    )
    assert main.main(["summary", "--tell"]) == 0
    told = json.loads(mine.read_text())
    assert (told["event"], told["app"]) == ("summary", None)
    assert told["text"] == f"{told['title']}\n\n{told['details']}"
    assert not others.exists()


def test_hook_that_fails_fails_the_command(
    world: World, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del world
    hooked(root, {"events": ["summary"], "command": ["/bin/false"]})
    assert main.main(["summary", "--tell"]) == 1
    assert "FAILED  command /bin/false failed with exit code 1" in capsys.readouterr().err
    hooked(root)
    assert main.main(["summary", "--tell"]) == 0
    assert "No hook has the event `summary`" in capsys.readouterr().out


@pytest.mark.parametrize("form", [text.plain, text.slack])
def test_text_is_whole_and_has_no_markup_of_its_own(
    form: Callable[[dict[str, object]], str],
) -> None:
    details = "\n".join(f"line {number} <b>" for number in range(60))
    document: dict[str, object] = {"event": "summary", "title": "T", "details": details}
    said = form(document)
    assert said.count("line") == 60
    assert ("<b>" in said) == (form is text.plain)
