"""When a destination's freshness turns red, and how often that is reported."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import create, status
from bedstone.cli import main
from bedstone.ledger import database, observations
from bedstone.notify import alarms, events
from bedstone.offsite import freshness
from bedstone.offsite import freshness as overview
from bedstone.offsite import observe as arrivals_measured
from bedstone.storage import destinations, restic_errors
from bedstone.wal import observe
from tests.unit.fixtures.offsite import LOCAL, OFFSITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.storage.destinations import Destinations
    from tests.unit.fixtures.repositories import Elsewhere


class World:
    """A server with an app and one destination, seen at times that a test says."""

    def __init__(self, settings: Settings, known: Destinations, elsewhere: Elsewhere) -> None:
        self.settings = settings
        self.known = known
        self.elsewhere = elsewhere
        # The settings are old.
        long_ago = datetime.now(UTC).timestamp() - 30 * 86_400
        os.utime(destinations.path(), (long_ago, long_ago))

    def seen(self, destination: str, hours: float | None, *, kind: str = "dump") -> None:
        """Record that the newest there was begun so many hours ago."""
        moment = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
        app = "" if kind in {"configuration", "wal"} else "payments"
        observations.record(
            destination,
            app,
            kind,
            newest=None if moment is None else f"backup_{moment:%Y%m%d_%H%M%S}",
            newest_at=moment,
        )

    def fresh(self) -> None:
        """Record that all is fresh."""
        for destination, kind in (
            ("local", "dump"),
            ("local", "media"),
            ("offsite", "dump"),
            ("offsite", "media"),
            ("offsite", "configuration"),
        ):
            self.seen(destination, 5, kind=kind)

    def later(self, hours: float) -> None:
        """Let the ledger's looks be older by so many hours."""
        delta = timedelta(hours=hours)
        with database.opened() as connection:
            for table, column in (
                ("arrivals", "checked_at"),
                ("arrivals", "problem_since"),
            ):
                for row in connection.execute(
                    f"SELECT rowid, {column} AS moment FROM {table}"
                ).fetchall():
                    if row["moment"]:
                        moment = datetime.fromisoformat(row["moment"]) - delta
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? WHERE rowid = ?",
                            (moment.isoformat(timespec="microseconds"), row["rowid"]),
                        )
        if (memory := alarms.path("destinations")).exists():
            document = json.loads(memory.read_text())
            for known in document["told"].values():
                moment = datetime.fromisoformat(known["told_at"]) - delta
                known["told_at"] = moment.isoformat()
            memory.write_text(json.dumps(document))

    def red(self) -> dict[str, str]:
        """Return what is red, and why."""
        found = freshness.items(self.settings, self.known)
        return {item.name: item.problem for item in found if item.problem}


@pytest.fixture
def world(
    settings: Settings,
    declare: Callable[..., Destinations],
    elsewhere: Elsewhere,
    key: object,
) -> World:
    del key
    return World(settings, declare(LOCAL, OFFSITE), elsewhere)


def test_what_is_fresh_everywhere_is_not_red(world: World) -> None:
    world.fresh()

    assert world.red() == {}


@pytest.mark.parametrize(("hours", "red"), [(25.9, False), (26.1, True)])
def test_what_is_older_than_26_hours_is_red(world: World, hours: float, red: bool) -> None:  # noqa: FBT001
    world.fresh()
    world.seen("offsite", hours)

    found = world.red()

    assert bool(found) == red
    if red:
        assert found["offsite/payments/dump"].startswith("the newest there is 1 day old")


def test_a_timer_that_was_stopped_for_a_day_turns_this_server_red(world: World) -> None:
    world.fresh()
    world.seen("local", 27)

    assert "bedstone-backup.timer" in world.red()["local/payments/dump"]


def test_what_never_arrived_is_red_once_there_was_time(world: World) -> None:
    world.fresh()
    world.seen("offsite", None)
    world.seen("local", 1)
    assert world.red() == {}

    world.seen("local", 3)

    assert "none has ever arrived" in world.red()["offsite/payments/dump"]


def test_a_server_out_of_reach_is_red_after_two_hours(world: World) -> None:
    world.fresh()
    observations.unseen("offsite", "payments", "dump", "it doesn't answer")
    (item,) = [i for i in freshness.items(world.settings, world.known) if i.note]
    assert "it doesn't answer" in (item.note or "")
    assert world.red() == {}

    world.later(2.1)

    assert "out of reach for 2 hours" in world.red()["offsite/payments/dump"]


def test_where_nobody_has_looked_for_hours_is_red(world: World) -> None:
    world.fresh()
    world.later(3.1)

    assert all("it was not checked for 3 hours" in said for said in world.red().values())
    assert len(world.red()) == 5


def test_where_nobody_ever_looked_is_red_once_the_timer_had_time(world: World) -> None:
    assert "it was not checked yet" in world.red()["offsite/payments/dump"]

    os.utime(destinations.path())
    assert world.red() == {}


def test_wal_is_red_by_what_was_measured_and_not_by_its_age(
    settings: Settings, declare: Callable[..., Destinations], elsewhere: Elsewhere, key: object
) -> None:
    del key
    point = {"stanza": "main", "keep_days": 7, "keep_full": 2, "archive_timeout_seconds": 60}
    world = World(settings, declare(LOCAL, OFFSITE, point_in_time=point), elsewhere)
    world.fresh()
    world.seen("local", 100, kind="wal")
    observations.record("offsite", "", "wal", newest="x", newest_at=None, problem="it has a gap")

    assert world.red() == {"offsite//wal": "it has a gap"}


def test_another_key_is_red_at_once_and_keeps_what_was_seen(world: World) -> None:
    world.fresh()
    world.elsewhere.broken["offsite"] = restic_errors.KEY

    arrivals_measured.measure(world.settings, world.known.get("offsite"))

    assert world.red()["offsite/payments/dump"] == "offsite fails: key."
    with database.opened() as connection:
        found = observations.last_seen(connection, destination="offsite", kind="dump")
    assert found[0].newest is not None


def test_a_server_that_does_not_answer_is_no_reason_yet(world: World) -> None:
    world.fresh()
    world.elsewhere.broken["offsite"] = restic_errors.UNREACHABLE

    arrivals_measured.measure(world.settings, world.known.get("offsite"))

    assert world.red() == {}


@pytest.mark.usefixtures("postgres")
def test_uploads_that_are_gone_from_this_servers_repository_are_red(world: World) -> None:
    create.create(world.settings, "payments")
    (snapshot,) = world.elsewhere.kept("local")
    world.elsewhere.open(world.known.local).forget([snapshot.id])
    world.known.local.restic.mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]

    arrivals_measured.measure(world.settings, world.known.local)

    assert "aren't in the repository" in world.red()["local/payments/media"]


@pytest.mark.usefixtures("postgres")
def test_a_lost_repository_is_red_although_the_next_night_makes_another(world: World) -> None:
    lost = create.create(world.settings, "payments").backup.name
    shutil.rmtree(world.elsewhere.home("local"))
    for _ in range(6):
        create.create(world.settings, "payments")
        world.fresh()

        arrivals_measured.measure(world.settings, world.known.local)

        assert f"the uploads of {lost} aren't" in world.red()["local/payments/media"]
        shown = status.app_status("payments", None)
        assert shown is not None
        assert f"the uploads of {lost} aren't" in shown["problem"]

    # It is reported for a week of nights, and not for ever.
    create.create(world.settings, "payments")
    arrivals_measured.measure(world.settings, world.known.local)
    assert world.red() == {}


def test_a_clock_that_is_not_that_of_the_backups_is_red(world: World) -> None:
    world.fresh()
    world.seen("offsite", -49)

    assert "2 days ahead of this server's clock" in world.red()["offsite/payments/dump"]


# --- Telling --------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[events.Event]:
    found: list[events.Event] = []

    def tell(event: events.Event) -> tuple[bool, tuple[str, ...]]:
        found.append(event)
        return True, ()

    monkeypatch.setattr(events, "send", tell)
    monkeypatch.setattr(arrivals_measured, "measure", lambda *_: None)
    monkeypatch.setattr(observe, "measure_all", lambda _: ())
    return found


def test_what_turns_red_is_told_once_and_again_each_day(
    world: World, told: list[events.Event]
) -> None:
    world.fresh()
    assert main.main(["destinations", "--tell"]) == 0
    assert told == []
    world.seen("offsite", 30)

    assert main.main(["destinations", "--tell"]) == 0
    assert main.main(["destinations", "--tell"]) == 0
    assert len(told) == 1
    assert told[0].kind == "failure"
    assert told[0].app == "payments"
    assert "dump of payments at offsite: the newest there is 1 day old" in told[0].title

    world.later(24.1)
    world.fresh()
    world.seen("offsite", 55)
    main.main(["destinations", "--tell"])
    assert len(told) == 2


def test_what_is_well_again_is_told_when_it_turns_red_anew(
    world: World, told: list[events.Event]
) -> None:
    world.fresh()
    world.seen("offsite", 30)
    main.main(["destinations", "--tell"])
    world.fresh()
    main.main(["destinations", "--tell"])
    main.main(["destinations", "--tell"])
    world.seen("offsite", 30)
    main.main(["destinations", "--tell"])

    assert [event.kind for event in told] == ["failure", "recovered", "failure"]


def test_what_is_well_for_one_look_only_is_told_once(
    world: World, told: list[events.Event]
) -> None:
    world.fresh()
    world.seen("offsite", 30)
    main.main(["destinations", "--tell"])
    world.fresh()
    main.main(["destinations", "--tell"])
    world.seen("offsite", 30)
    main.main(["destinations", "--tell"])

    assert len(told) == 1


@pytest.mark.usefixtures("told")
def test_what_no_hook_could_take_is_told_the_next_time(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("BEDSTONE_ROOT", str(root))
    monkeypatch.setattr(arrivals_measured, "measure", lambda *_: None)
    log = root / "told"
    script = root / "hook"
    script.write_text(f"#!/bin/sh\ncat > /dev/null; echo told >> {log}; exit $(cat {root}/code)\n")
    script.chmod(0o755)
    hook = {"on": ["failure"], "command": [str(script)], "timeout_seconds": 10}
    (root / "etc/bedstone/hooks.json").write_text(json.dumps({"schema": 1, "hooks": [hook]}))
    world.fresh()
    world.seen("offsite", 30)

    for code, times in ((1, 1), (0, 2), (0, 2)):
        (root / "code").write_text(str(code))
        assert main.main(["destinations", "--tell"]) == 0
        assert len(log.read_text().splitlines()) == times


def test_all_that_turns_red_at_once_is_one_message(world: World, told: list[events.Event]) -> None:
    world.fresh()
    world.later(5)

    main.main(["destinations", "--tell"])

    assert len(told) == 1
    assert "and 4 more" in told[0].title
    assert len(told[0].details.splitlines()) == 5


def test_alarms_of_others_are_left_alone(root: object) -> None:
    del root
    disk = [alarms.Alarm("disk", "red", "full", "df")]
    alarms.remember("watch", alarms.news("watch", disk), begun=True, over=True)
    for _ in range(2):
        alarms.remember("destinations", alarms.news("destinations", []), begun=True, over=True)

    assert alarms.news("watch", disk).begun == []


# --- Showing --------------------------------------------------------------------------------


@pytest.mark.usefixtures("told")
def test_the_command_shows_all_and_fails_for_red_only_when_it_looked(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fresh()
    world.seen("offsite", 30)

    assert main.main(["destinations"]) == 0
    assert main.main(["destinations", "--check"]) == 1

    said = capsys.readouterr().out
    assert "offsite: sftp bedstone@backup.example.com:2222:/srv/bedstone" in said
    assert "RED: the newest there is 1 day old" in said
    assert "Needs attention:" in said


def test_json_has_what_programs_need(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fresh()

    main.main(["destinations", "--json"])

    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["ok"] is True
    assert [place["name"] for place in shown["destinations"]] == ["local", "offsite"]
    assert {item["kind"] for item in shown["items"]} == {"dump", "media", "configuration"}


def test_status_shows_the_most_worrying_destination(world: World) -> None:
    world.fresh()
    shown = overview.app_status("payments")
    assert shown is not None
    assert (shown["destination"], shown["ok"]) == ("offsite", True)

    world.seen("offsite", 30, kind="media")

    shown = overview.app_status("payments")
    assert shown is not None
    assert "media of payments at offsite" in shown["problem"]


def test_status_shows_nothing_without_destinations(
    world: World, declare: Callable[..., Destinations]
) -> None:
    world.fresh()
    declare(LOCAL)

    assert overview.app_status("payments") is None
