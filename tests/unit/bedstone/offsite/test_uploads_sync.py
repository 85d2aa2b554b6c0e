"""Uploads go to the destinations between the backups, once each, and are seen to be late."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import create
from bedstone.cli import main
from bedstone.core import lock
from bedstone.ledger import database, observations
from bedstone.ledger.kinds import UPLOADS
from bedstone.offsite import copies, freshness, sync, uploads_sync
from bedstone.storage import restic_errors
from tests.unit.fixtures.offsite import BUCKET, LOCAL, OFFSITE
from tests.unit.fixtures.repositories import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.offsite.sync import Result
    from bedstone.storage.destinations import Destinations
    from tests.unit.fixtures.repositories import Elsewhere

pytestmark = pytest.mark.usefixtures("postgres", "key")

MEDIA = {"app": "payments", "directory": "/srv/bedstone/payments/media", "copy_every_minutes": 15}


class World:
    """A server whose backup is at two destinations, and whose app goes on."""

    def __init__(
        self, settings: Settings, known: Destinations, elsewhere: Elsewhere, media: Path
    ) -> None:
        self.settings = settings
        self.known = known
        self.elsewhere = elsewhere
        self.media = media

    def night(self) -> None:
        create.create(self.settings, "payments")
        sync.run(self.settings, self.known, wanted=self.known.remote, apps=self.settings.apps)

    def copy(self, *, due: bool = False) -> dict[str, Result]:
        results = uploads_sync.run(wanted=self.known.remote, apps=self.settings.apps, due=due)
        return {result.destination: result for result in results}

    def kept(self, destination: str = "offsite") -> int:
        return len(self.elsewhere.kept(destination, kind=UPLOADS))

    def run(self, minutes_ago: float, destination: str = "offsite") -> None:
        """Record that uploads were last copied so long ago."""
        moment = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        observations.record(destination, "payments", UPLOADS, newest=None, newest_at=moment)

    def red(self) -> dict[str, str]:
        found = freshness.items(self.settings, self.known)
        return {item.name: item.problem for item in found if item.problem}

    def states(self) -> list[tuple[object, ...]]:
        with database.opened() as connection:
            found = connection.execute(
                "SELECT destination, state FROM copies WHERE kind = 'uploads' ORDER BY id"
            )
            return [tuple(row) for row in found]


@pytest.fixture
def world(
    configure: Callable[..., Settings],
    declare: Callable[..., Destinations],
    elsewhere: Elsewhere,
    media: Path,
) -> World:
    made = World(configure(media=[MEDIA]), declare(LOCAL, OFFSITE, BUCKET), elsewhere, media)
    made.night()
    return made


def test_new_upload_is_at_each_destination_before_the_next_backup(world: World, root: Path) -> None:
    (world.media / "later.pdf").write_text("after the backup")

    results = world.copy()

    assert all(len(result.sent) == 1 for result in results.values())
    for name in ("offsite", "bucket"):
        (found,) = world.elsewhere.kept(name, kind=UPLOADS, app="payments")
        held = world.elsewhere.home(name) / found.id / "media" / "later.pdf"
        assert held.read_text() == "after the backup"
        assert found.tags["backup"].startswith("uploads_")
        brought = copies.fetch(
            world.known.get(name), "payments", found.tags["backup"], root / "back" / name,
            kind=UPLOADS,
        )  # fmt: skip
        assert (brought / "later.pdf").read_text() == "after the backup"


def test_unchanged_uploads_add_nothing_and_count_as_copied(world: World) -> None:
    results = world.copy()

    assert results["offsite"].sent == ["payments: no new uploads"]
    assert world.kept() == 0
    (world.media / "later.pdf").write_text("after the backup")
    world.copy()
    before = datetime.now(UTC)
    world.copy()
    assert world.kept() == 1
    with database.opened() as connection:
        (found,) = observations.last_seen(connection, destination="offsite", kind=UPLOADS)
    assert (found.newest or "").startswith("uploads_")
    assert found.newest_at is not None
    assert found.newest_at >= before


def test_failure_at_a_destination_harms_no_other_and_is_recorded_once(world: World) -> None:
    (world.media / "later.pdf").write_text("after the backup")
    world.elsewhere.broken["offsite"] = restic_errors.UNREACHABLE
    for _ in range(3):
        results = world.copy()
        assert len(results["offsite"].problems) == 1
        assert not results["bucket"].problems
    assert (world.kept(), world.kept("bucket")) == (0, 1)

    world.elsewhere.broken.clear()
    world.copy()
    assert world.kept() == 1
    assert world.states() == [
        ("offsite", "failed"),
        ("bucket", "succeeded"),
        ("offsite", "succeeded"),
    ]


@pytest.mark.parametrize(("minutes", "sent"), [(5, False), (14, True), (90, True), (-90, True)])
def test_only_what_is_due_is_sent(world: World, minutes: float, sent: bool) -> None:  # noqa: FBT001
    world.run(minutes)
    world.run(1, "bucket")
    (world.media / "later.pdf").write_text("after the backup")

    assert ("offsite" in world.copy(due=True)) == sent
    assert (world.kept(), world.kept("bucket")) == (int(sent), 0)


def test_server_without_a_backup_at_a_destination_sends_no_uploads(world: World) -> None:
    """A new one may be rebuilt: its empty directory would pass for the newest uploads there."""
    (world.media / "later.pdf").write_text("after the backup")
    with database.opened() as connection:
        connection.execute("DELETE FROM copies WHERE destination = 'offsite'")
    results = world.copy(due=True)
    assert results["offsite"].notes == [
        "payments: its uploads follow when the first backup is there"
    ]
    assert not results["offsite"].problems
    assert (world.kept(), world.kept("bucket")) == (0, 1)


def test_repository_that_is_gone_is_a_problem_and_not_made_again(world: World) -> None:
    shutil.rmtree(world.elsewhere.home("offsite"))
    assert world.copy()["offsite"].problems
    assert not world.elsewhere.home("offsite").exists()


def test_snapshot_that_did_not_arrive_is_a_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.media / "later.pdf").write_text("after the backup")
    monkeypatch.setattr(Repository, "snapshots", lambda *_: [])
    (problem,) = world.copy()["offsite"].problems
    assert "was sent to offsite, but isn't there" in problem.message


# --- Retention ------------------------------------------------------------------------------


def _age(world: World, destination: str, days: float) -> None:
    """Let all that is at a destination be older."""
    for path in world.elsewhere.home(destination).glob("*.json"):
        entry = json.loads(path.read_text())
        moment = datetime.fromisoformat(entry["time"]) - timedelta(days=days)
        path.write_text(json.dumps({**entry, "time": moment.isoformat()}))


def test_nightly_run_removes_uploads_that_later_backups_hold(
    world: World, declare: Callable[..., Destinations]
) -> None:
    world.known = declare(LOCAL, OFFSITE, {**BUCKET, "immutable": True})
    (world.media / "later.pdf").write_text("after the backup")
    world.copy()
    for _ in range(2):
        for name in ("offsite", "bucket"):
            _age(world, name, 1)
        assert world.kept() == 1
        # The name of a backup is that of its second.
        (world.media / "invoice.pdf").write_text(os.urandom(4).hex())
        world.night()

    assert world.kept() == 0
    # Retention there is the other side's.
    assert world.kept("bucket") == 1


# --- Late -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "minutes"), [(15, 120), (60, 240)])
def test_uploads_are_red_after_some_intervals(
    world: World, configure: Callable[..., Settings], every: int, minutes: int
) -> None:
    world.settings = configure(media=[{**MEDIA, "copy_every_minutes": every}])
    world.copy()
    assert world.red() == {}

    world.run(minutes - 1)
    assert world.red() == {}
    world.run(minutes + 1)
    assert "bedstone-uploads.service" in world.red()["offsite/payments/uploads"]


def test_hourly_check_does_not_make_them_fresh(world: World) -> None:
    world.run(180)
    main.main(["destinations", "--check"])
    assert "3 hours old" in world.red()["offsite/payments/uploads"]


def test_uploads_that_never_arrived_are_red_once_there_is_a_backup(
    world: World, root: Path
) -> None:
    assert main.main(["destinations", "--check"]) == 0
    with database.opened() as connection:
        connection.execute(
            "UPDATE arrivals SET newest_at = ? WHERE destination = 'local'",
            ((datetime.now(UTC) - timedelta(hours=3)).isoformat(),),
        )
        connection.commit()
    old = datetime.now(UTC).timestamp() - 86_400
    os.utime(root / "etc/bedstone/backup.json", (old, old))
    assert "none has ever arrived there" in world.red()["offsite/payments/uploads"]


# --- The command ----------------------------------------------------------------------------


def test_command_sends_now_and_fails_for_what_a_destination_refuses(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.run(1)
    world.elsewhere.broken["bucket"] = restic_errors.UNREACHABLE
    (world.media / "later.pdf").write_text("after the backup")
    assert main.main(["copy", "payments", "--uploads"]) == 1
    said = capsys.readouterr()
    assert "offsite: has payments: its uploads of " in said.out
    assert "bucket: bucket fails" in said.err
    assert world.kept() == 1


def test_timer_is_silent_when_nothing_is_due_or_another_copy_runs(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock.held(sync.LOCK, "bedstone copy"):
        assert main.main(["copy", "--uploads", "--due"]) == 0
        assert "have their turn in five minutes" in capsys.readouterr().err
    world.elsewhere.broken["bucket"] = restic_errors.UNREACHABLE
    assert main.main(["copy", "--uploads", "--due"]) == 0
    assert "bucket fails" in capsys.readouterr().err
    world.run(1)
    world.run(1, "bucket")
    assert main.main(["copy", "--uploads", "--due"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--due",), "add --uploads"),
        (("payments", "--uploads", "--backup", "backup_1"), "no backup"),
        (("--uploads", "--new-repository"), "no backup, to no new repository"),
    ],
)
def test_what_is_not_clear_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert main.main(["copy", *arguments]) == 3
    assert said in capsys.readouterr().err
    assert world.kept() == 0


def test_app_without_the_setting_is_refused_with_its_name(
    world: World, configure: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    assert main.main(["copy", "payments", "--uploads"]) == 3
    assert "`copy_every_minutes` in `media`" in capsys.readouterr().err
    assert main.main(["copy", "--uploads", "--due"]) == 0
    assert world.kept() == 0
