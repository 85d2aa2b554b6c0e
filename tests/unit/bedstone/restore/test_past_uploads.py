"""A restore to a moment takes the uploads that fit it, and says which; else they stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.ledger.kinds import UPLOADS
from bedstone.restore import past_uploads
from bedstone.storage import destinations as known_destinations
from bedstone.storage import restic_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.manifest import Media
    from bedstone.backup.settings import App, Settings
    from tests.unit.fixtures.repositories import Elsewhere

MOMENT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("key")


class World:
    """An app with copies of its uploads at a destination."""

    def __init__(self, app: App, media: Path, elsewhere: Elsewhere) -> None:
        self.app = app
        self.media = media
        self.elsewhere = elsewhere

    def copied(self, minutes: float, text: str) -> str:
        """Put a copy to the destination, made so long after the moment; return its id."""
        place = known_destinations.load().get("offsite")
        repository = self.elsewhere.open(place)
        repository.ready()
        (self.media / "invoice.pdf").write_text(text)
        tags = {"app": "payments", "kind": UPLOADS, "backup": f"uploads_{minutes}"}
        made, _ = repository.backup(self.media.parent, ["media"], tags)
        (path,) = self.elsewhere.home("offsite").glob(f"{made}*.json")
        entry = json.loads(path.read_text())
        moment = MOMENT + timedelta(minutes=minutes)
        path.write_text(json.dumps({**entry, "time": moment.isoformat()}))
        return path.stem

    def find(self) -> tuple[Media | None, str]:
        return past_uploads.find(self.app, self.media, MOMENT, "local")


@pytest.fixture
def world(
    settings: Settings, destinations: Callable[..., None], media: Path, elsewhere: Elsewhere
) -> World:
    destinations()
    app = replace(settings.app("payments"), copy_every_minutes=15)
    return World(app, media, elsewhere)


def test_first_copy_since_the_moment_is_taken(world: World) -> None:
    world.copied(-5, "before")
    wanted = world.copied(10, "ten minutes later")
    world.copied(25, "later")

    found, said = world.find()

    assert found is not None
    assert (found.snapshot, found.files, found.repository) == (wanted, 1, "offsite")
    assert "those of 2026-11-20 10:10:00 UTC, from offsite: the first copy since" in said


def test_present_uploads_are_better_than_a_copy_from_before(world: World) -> None:
    world.copied(-5, "before")
    assert world.find() == (
        None,
        _stay("no destination has a copy that was made since that moment"),
    )


def test_copy_from_before_is_taken_where_there_are_none(world: World) -> None:
    world.copied(-25, "long before")
    wanted = world.copied(-5, "before")
    shutil.rmtree(world.media)

    found, said = world.find()

    assert found is not None
    assert found.snapshot == wanted
    assert "the last copy before" in said


def test_without_the_setting_they_stay(world: World) -> None:
    world.copied(10, "later")
    world.app = replace(world.app, copy_every_minutes=None)
    assert world.find() == (None, _stay("they aren't in the WAL"))


def test_destination_that_fails_does_not_stop_the_restore(world: World) -> None:
    world.copied(10, "later")
    world.elsewhere.broken["offsite"] = restic_errors.UNREACHABLE
    found, said = world.find()
    assert found is None
    assert said.startswith("Uploads stay as they are")


def _stay(why: str) -> str:
    return f"Uploads stay as they are: {why}."
