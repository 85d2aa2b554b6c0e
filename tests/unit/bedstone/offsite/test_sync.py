"""What a run brings to the destinations, and what it leaves when it fails."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.backup import catalog, create, manifest, media, retention_held
from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, observations, verifications
from bedstone.ledger.verifications import Verification
from bedstone.offsite import copies, host_state, sync
from bedstone.storage import restic_errors
from tests.unit.fixtures.backup import in_a_process_of_its_own
from tests.unit.fixtures.offsite import BUCKET, LOCAL, OFFSITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import Settings
    from bedstone.offsite.sync import Result
    from bedstone.storage.destinations import Destinations
    from tests.unit.fixtures.repositories import Elsewhere

pytestmark = pytest.mark.usefixtures("postgres", "key")


class World:
    """A server with an app, and two destinations."""

    def __init__(self, settings: Settings, known: Destinations, elsewhere: Elsewhere) -> None:
        self.settings = settings
        self.known = known
        self.elsewhere = elsewhere
        self.home = settings.directory / "payments"

    def backup(self, **options: object) -> Backup:
        """Make a backup."""
        return create.create(self.settings, "payments", **options).backup  # type: ignore[arg-type]

    def night(self, days_ago: float) -> str:
        """Make a backup that is as old as if a night had made it, and return its name."""
        made = self.backup()
        assert made.manifest is not None
        moment = datetime.now(UTC) - timedelta(days=days_ago)
        name = f"backup_{moment:%Y%m%d_%H%M%S}"
        manifest.write(made.path, replace(made.manifest, name=name, started=moment))
        made.path.rename(self.home / name)
        return name

    def copy(self, **options: object) -> dict[str, Result]:
        """Copy all, and return the results by destination."""
        results = sync.run(
            self.settings,
            self.known,
            **{"wanted": self.known.remote, "apps": self.settings.apps, **options},  # type: ignore[arg-type]
        )
        return {result.destination: result for result in results}

    def names(self, destination: str) -> list[str]:
        """Return what counts at a destination, the newest first."""
        place = self.known.get(destination)
        return [remote.name for remote in copies.listed(place, "payments")]

    def rows(self) -> list[tuple[object, ...]]:
        """Return what the ledger says of copies of dumps."""
        with database.opened() as connection:
            found = connection.execute(
                "SELECT destination, backup, state FROM copies WHERE kind = 'dump'"
                " OR (kind = 'run' AND state = 'failed') ORDER BY id"
            )
            return [tuple(row) for row in found]


@pytest.fixture
def world(settings: Settings, declare: Callable[..., Destinations], elsewhere: Elsewhere) -> World:
    return World(settings, declare(LOCAL, OFFSITE, BUCKET), elsewhere)


def test_a_backup_arrives_at_each_destination_with_its_uploads(world: World) -> None:
    made = world.backup()

    results = world.copy()

    assert not any(result.problems for result in results.values())
    for name in ("offsite", "bucket"):
        (remote,) = copies.listed(world.known.get(name), "payments")
        assert (remote.name, remote.kinds) == (made.name, ("dump", "media"))
        assert remote.full
        assert made.manifest is not None
        assert remote.started == made.manifest.started
        assert remote.bytes == made.manifest.bytes
    assert world.rows() == [
        ("offsite", made.name, "succeeded"),
        ("bucket", made.name, "succeeded"),
    ]


def test_what_arrived_is_read_back_and_written_down(world: World) -> None:
    made = world.backup()
    world.copy()

    with database.opened() as connection:
        found = {
            (a.app, a.kind): a for a in observations.last_seen(connection, destination="offsite")
        }
    assert found["payments", "dump"].newest == made.name
    assert found["payments", "media"].newest == made.name
    assert (found["", "configuration"].newest or "").startswith("configuration_")
    assert all(a.checked_at and not a.problem for a in found.values())


def test_a_second_run_sends_nothing_twice(world: World) -> None:
    world.backup()
    world.copy()

    again = world.copy()

    assert again["offsite"].sent == ["the configuration of this server"]
    assert len(world.elsewhere.kept("offsite", kind="dump")) == 1


@pytest.mark.parametrize(("minutes", "sent"), [(1, 2), (-1, 1)], ids=["meanwhile", "before"])
def test_a_release_that_ended_meanwhile_is_sent_too(
    world: World, minutes: float, sent: int
) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO operations (app, kind, release, state, started_at, finished_at)"
            " VALUES ('payments', 'release', '1', 'succeeded', ?, ?)",
            (moment.isoformat(), moment.isoformat()),
        )
        connection.commit()
    world.backup()
    world.elsewhere.broken["bucket"] = restic_errors.UNREACHABLE

    results = world.copy()

    said = results["offsite"].sent
    # As long as one ends after a round began, there is another; but not for ever.
    expected = 1 + sync._ROUNDS if sent > 1 else 1
    assert said.count("the configuration of this server") == expected
    assert len(results["bucket"].problems) == 1


def test_a_backup_that_ended_meanwhile_is_sent_too(world: World) -> None:
    first = world.backup().name
    later: list[str] = []

    def say(text: str) -> None:
        if not later and "configuration" in text:
            later.append(world.backup().name)

    world.copy(say=say)

    assert world.names("offsite") == [*later, first]
    # Its turn came afterwards, and a new destination gets the newest alone.
    assert world.names("bucket") == later


def test_a_backup_that_ended_while_room_was_freed_here_is_sent_too(world: World) -> None:
    world.backup()
    world.copy()
    last_month = datetime.now(UTC).timestamp() - 30 * 86_400
    os.utime(paths.state() / "pruned/local", (last_month, last_month))
    later: list[str] = []

    def say(text: str) -> None:
        if text.startswith("local: frees"):
            later.append(world.backup().name)

    world.copy(say=say)

    assert world.names("offsite")[:1] == later


def test_a_destination_that_fails_keeps_no_other_from_its_copy(world: World) -> None:
    made = world.backup()
    world.elsewhere.broken["offsite"] = restic_errors.UNREACHABLE

    results = world.copy()

    assert [error.message for error in results["offsite"].problems] == [
        "offsite fails: unreachable."
    ]
    assert world.names("bucket") == [made.name]
    assert ("offsite", None, "failed") in world.rows()


def test_a_damaged_ledger_keeps_no_destination_from_its_copy(world: World) -> None:
    first = world.night(1)
    world.copy()
    with database.opened() as connection:
        connection.execute("DROP TABLE copies")
    second = world.backup().name

    results = world.copy()

    for name in ("offsite", "bucket"):
        assert world.names(name) == [second, first]
        assert "The ledger fails: no such table" in results[name].problems[0].message


def test_what_could_not_be_removed_is_not_called_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = replace(
        world.settings, keep_days=1, keep_weeks=0, keep_months=0, keep_at_least=1
    )
    old = world.night(9)
    world.copy()
    for days in (2, 1, 0):
        world.night(days)

    def locked(*_: object) -> None:
        raise restic_errors.ResticError("it is locked", restic_errors.LOCKED)

    with monkeypatch.context() as patch:
        patch.setattr(type(world.elsewhere.open(world.known.local)), "forget", locked)
        kept = world.copy()["offsite"]
    assert (kept.removed, kept.notes) == ([], ["old copies were not removed: it is locked"])
    assert old in world.names("offsite")

    assert world.copy()["offsite"].removed == [old]


def test_a_smaller_retention_removes_no_copy_until_it_is_accepted(world: World) -> None:
    old = world.night(9)
    world.copy()
    for days in (2, 1, 0):
        world.night(days)
    world.settings = replace(
        world.settings, keep_days=1, keep_weeks=0, keep_months=0, keep_at_least=1
    )

    held = world.copy()["offsite"]
    assert held.removed == []
    assert old in world.names("offsite")

    # As `bedstone retention --accept` does with the settings' file.
    retention_held.path().unlink()
    assert old in world.copy()["offsite"].removed


def test_what_failed_last_night_is_sent_tonight(world: World) -> None:
    first = world.night(2)
    world.copy()
    world.elsewhere.broken["offsite"] = restic_errors.UNREACHABLE
    second = world.night(1)
    world.copy()
    del world.elsewhere.broken["offsite"]
    third = world.backup().name

    world.copy()

    assert world.names("offsite") == [third, second, first]


def test_one_from_the_future_is_never_the_newest_there(world: World) -> None:
    real = world.night(2)
    world.copy()
    future = world.night(-400)
    world.copy(backup=future)

    assert world.names("offsite") == [real, future]
    with database.opened() as connection:
        (seen,) = observations.last_seen(connection, destination="offsite", kind="dump")
    assert seen.newest == real
    brought = copies.fetch(world.known.get("offsite"), "payments", "latest", world.home / "look")
    assert brought.name == real


def test_a_new_destination_gets_the_newest_alone(world: World) -> None:
    world.night(2)
    world.night(1)
    newest = world.backup().name

    world.copy()

    assert world.names("offsite") == [newest]


def test_restore_points_are_sent_only_when_they_are_asked_for(world: World) -> None:
    full = world.backup()
    point = world.backup(with_media=False)
    world.copy()
    assert world.names("offsite") == [full.name]

    world.copy(backup=point.name)

    there = copies.listed(world.known.get("offsite"), "payments")
    assert {remote.name: remote.full for remote in there} == {full.name: True, point.name: False}


def test_a_damaged_backup_is_not_sent(world: World) -> None:
    made = world.backup()
    dump = made.path / "database/3409.dat.zst"
    dump.write_text("y" * dump.stat().st_size)

    results = world.copy()

    assert "damaged, so it isn't copied" in results["offsite"].problems[0].message
    assert world.names("offsite") == []


def test_a_killed_copy_leaves_nothing_that_counts(world: World) -> None:
    made = world.backup()

    def killed() -> None:
        real = world.elsewhere.interrupted
        assert real is None

        def die() -> None:

            os.kill(os.getpid(), signal.SIGKILL)

        world.elsewhere.interrupted = die
        world.copy()

    assert in_a_process_of_its_own(killed) == -9
    # Its uploads are there already.
    assert world.elsewhere.kept("offsite", kind="media")
    assert world.names("offsite") == []

    world.copy()
    assert world.names("offsite") == [made.name]
    assert len(world.elsewhere.kept("offsite", kind="media")) == 1


def test_a_second_run_at_the_same_time_is_told_of_the_first(world: World) -> None:
    with lock.held(sync.LOCK, "bedstone copy"), pytest.raises(lock.LockedError) as raised:
        world.copy()

    assert "`bedstone copy`" in raised.value.message


def test_a_repository_that_is_gone_is_not_silently_made_anew(world: World) -> None:
    made = world.backup()
    world.copy()
    world.elsewhere.home("offsite").rename(world.elsewhere.home("lost"))

    results = world.copy()

    assert "is gone: the last copy arrived there" in results["offsite"].problems[0].message
    assert "--new-repository" in (results["offsite"].problems[0].hint or "")
    world.copy(anew=True)
    assert world.names("offsite") == [made.name]


def test_old_copies_go_by_the_rules_of_this_server_and_the_newest_verified_stays(
    world: World,
) -> None:
    world.settings = replace(
        world.settings, keep_days=2, keep_weeks=0, keep_months=0, keep_at_least=1
    )
    names = []
    for days in (9, 7, 5, 3):
        names.append(world.night(days))
        world.copy()
    verifications.record(
        Verification(
            app="payments",
            kind="dump",
            backup=names[0],
            destination="offsite",
            state="succeeded",
            started_at=datetime.now(UTC).isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            seconds=1,
        )
    )
    assert names[0] not in world.names("offsite")
    keeper = world.names("offsite")[-1]
    with database.opened() as connection:
        connection.execute("UPDATE verifications SET backup = ?", (keeper,))

    newest = world.backup().name
    results = world.copy()

    assert keeper in world.names("offsite")
    assert newest in world.names("offsite")
    assert keeper not in results["offsite"].removed
    # No upload stays without its backup.
    left = world.elsewhere.kept("offsite", kind="media")
    needed = {s.tags["media"] for s in world.elsewhere.kept("offsite", kind="dump")}
    assert {s.original for s in left} == needed


def test_nothing_is_removed_at_an_immutable_destination(world: World) -> None:
    world.settings = replace(
        world.settings, keep_days=2, keep_weeks=0, keep_months=0, keep_at_least=1
    )
    local, offsite, bucket = world.known.all
    world.known = replace(world.known, all=(local, replace(offsite, immutable=True), bucket))
    for days in (9, 7, 5):
        world.night(days)
        results = world.copy()

    assert len(world.names("offsite")) == 3
    assert len(world.names("bucket")) < 3
    assert results["offsite"].removed == []
    assert results["offsite"].notes == []


def test_nothing_is_sent_that_would_be_forgotten_at_once(world: World) -> None:
    world.settings = replace(
        world.settings, keep_days=1, keep_weeks=0, keep_months=0, keep_at_least=1
    )
    world.night(9)
    world.copy()
    world.night(8)
    world.night(5)
    world.copy()
    first = world.elsewhere.calls.copy()

    world.copy()

    again = world.elsewhere.calls[len(first) :]
    assert not [c for c in again if c[1] == "backup" and c[2].startswith("backup_")]


def test_a_backup_comes_back_whole_and_its_uploads_from_where_it_came(
    world: World, root: Path
) -> None:
    made = world.backup()
    world.copy()
    world.elsewhere.home("local").rename(world.elsewhere.home("burnt"))

    directory = copies.fetch(world.known.get("bucket"), "payments", "latest", root / "back")

    assert directory == root / "back" / made.name
    found = catalog.load(directory)
    assert found.full
    assert found.manifest is not None
    assert found.manifest.media is not None
    media.unpack(found.manifest.media, directory, root / "out", watch=lambda: None)
    assert (root / "out/invoice.pdf").read_text() == "the first"
    assert ("bucket", "restore") in {call[:2] for call in world.elsewhere.calls}
    assert ("offsite", "restore") not in {call[:2] for call in world.elsewhere.calls}


def test_uploads_come_back_alone(world: World, root: Path) -> None:
    world.backup()
    world.copy()

    place = world.known.get("offsite")
    directory = copies.fetch(place, "payments", "latest", root / "back", kind="media")

    assert directory == root / "back/media"
    assert (directory / "invoice.pdf").read_text() == "the first"


def test_what_comes_back_changed_is_refused_and_removed(world: World, root: Path) -> None:
    world.backup()
    world.copy()
    (dump,) = world.elsewhere.home("offsite").glob("*/backup_*/database/3409.dat.zst")
    dump.write_text("truncated")

    with pytest.raises(BedstoneError) as raised:
        copies.fetch(world.known.get("offsite"), "payments", "latest", root / "back")

    assert "isn't what was sent" in raised.value.message
    assert "3409.dat.zst is truncated" in raised.value.details
    assert list((root / "back").iterdir()) == []


def test_a_name_that_is_not_there_is_refused_with_those_that_are(world: World, root: Path) -> None:
    made = world.backup()
    world.copy()

    with pytest.raises(RefusedError) as raised:
        copies.fetch(world.known.get("offsite"), "payments", "backup_20200101_000000", root / "b")

    assert made.name in raised.value.text()


def test_a_fetch_that_would_fill_the_disk_is_refused(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backup()
    world.copy()
    monkeypatch.setattr("bedstone.core.disk.free_bytes", lambda _: 10)

    with pytest.raises(RefusedError, match="only 10 B is free"):
        copies.fetch(world.known.get("offsite"), "payments", "latest", root / "back")


def test_the_configuration_holds_secrets_and_ledger_but_no_keys_of_backups(
    world: World, root: Path
) -> None:
    app = root / "etc/bedstone/apps/payments"
    app.mkdir(parents=True)
    (app / "app.env").write_text("SECRET_KEY=x\n")
    (root / "etc/bedstone/destinations/offsite").mkdir(parents=True)
    (root / "etc/bedstone/destinations/offsite/id").write_text("a private key")
    (root / "var/lib/bedstone/apps/payments").mkdir(parents=True)
    (root / "var/lib/bedstone/apps/payments/made.json").write_text("{}")
    world.backup()
    world.copy()

    place = world.known.get("offsite")
    directory = copies.fetch(place, "", "latest", root / "back", kind="configuration")

    assert (directory / "etc/apps/payments/app.env").read_text() == "SECRET_KEY=x\n"
    assert not (directory / "etc/backup.key").exists()
    assert not (directory / "etc/destinations").exists()
    assert (directory / "state/apps/payments/made.json").exists()
    assert (directory / "ledger.sqlite").read_bytes().startswith(b"SQLite format 3")
    assert json.loads((directory / "contents.json").read_text())["apps"] == {}
    # Nothing of it stays on this server in the clear.
    assert not (host_state.place() / "configuration").exists()


def released(release: str) -> None:
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO releases (app, id, version, image, fingerprint, state, started_at)"
            " VALUES ('payments', ?, 'v1', 'sha256:abc', 'x', 'succeeded', '2026-11-20')",
            (release,),
        )
        connection.execute("REPLACE INTO apps VALUES ('payments', ?, 'blue')", (release,))


def test_the_image_that_serves_is_copied_once(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(app: str, release: str, image: str, reserve: int) -> Path:
        del image, reserve
        target = root / f"{app}.tar"
        target.write_text(f"the image of {release}")
        return target

    monkeypatch.setattr(host_state, "has_docker", lambda: True)
    monkeypatch.setattr(host_state, "save_image", save)
    released("20261120_101500-v1")
    world.copy()
    world.copy()

    (snapshot,) = world.elsewhere.kept("offsite", kind="image")
    assert snapshot.tags["backup"] == "20261120_101500-v1"
    assert not (root / "payments.tar").exists()
    place = world.known.get("offsite")
    archive = copies.fetch(place, "payments", "20261120_101500-v1", root / "b", kind="image")
    assert archive.read_text() == "the image of 20261120_101500-v1"


def test_a_host_without_docker_says_that_images_are_not_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_state, "has_docker", lambda: False)
    released("20261120_101500-v1")

    results = world.copy()

    assert results["offsite"].problems == []
    assert "no Docker on this server" in results["offsite"].notes[0]
