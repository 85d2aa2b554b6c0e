"""The ledger, the kept releases, their images and the uploads come back, again and again."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from bedstone.backup.settings import App, Settings
from bedstone.cli import rebuild
from bedstone.core import paths
from bedstone.core.errors import RefusedError
from bedstone.ledger import database, releases
from bedstone.ledger.kinds import CONFIGURATION, DUMP, MEDIA, UPLOADS
from bedstone.offsite import copies
from bedstone.offsite.copies import IMAGE
from bedstone.rebuild import files, run
from bedstone.storage import restic_errors
from bedstone.storage.destinations import Destination
from bedstone.storage.restic import Snapshot
from bedstone.storage.restic_errors import ResticError
from bedstone.system.docker import Docker, ImageFacts

if TYPE_CHECKING:
    from pathlib import Path

OFFSITE = Destination("offsite", "sftp", 2, host="backup.example.com", user="b", path="/srv/b")
RELEASE = "20261120_101500-v1"
NIGHT = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)


@dataclass
class FakeDocker:
    """Loads what the file names."""

    loaded: dict[str, str] = field(default_factory=dict)

    def load_all(self, archive: Path) -> list[str]:
        name, identity = archive.read_text().split()
        self.loaded[name] = identity
        return [name]

    def image(self, reference: str) -> ImageFacts | None:
        found = self.loaded.get(reference)
        return ImageFacts(found, "") if found else None


@dataclass
class Elsewhere:
    """A destination: what is there, and what was fetched."""

    images: dict[str, str]
    configured: bool = True
    schema: int = len(database.MIGRATIONS)
    # Of payments: the moments of uploads that were copied between backups, and what is damaged.
    copied: tuple[datetime, ...] = ()
    damaged: tuple[str, ...] = ()

    def snapshots(self) -> list[Snapshot]:
        tags = {"app": "", "kind": CONFIGURATION, "backup": "configuration_1"}
        configured = [Snapshot("c", NIGHT, tags)] if self.configured else []
        of = {"app": "payments", "backup": "backup_1"}
        dump = {**of, "kind": DUMP, "media": "m", "started": NIGHT.isoformat()}
        night = [Snapshot("d", NIGHT, dump), Snapshot("n", NIGHT, {**of, "kind": MEDIA}, (), "m")]
        between = [
            Snapshot(f"u{moment:%H}", moment, {**of, "kind": UPLOADS, "backup": f"{moment:%H}"})
            for moment in self.copied
        ]
        return [*configured, *night, *between]

    def fetch(
        self, _place: Destination, app: str, name: str, into: Path, *, kind: str, **_: object
    ) -> Path:
        into.mkdir(parents=True, exist_ok=True)
        if kind == CONFIGURATION:
            return self._configuration(into / CONFIGURATION)
        if kind == IMAGE:
            if app not in self.images:
                raise RefusedError(f"There is no image of {app} {name!r} at offsite.")
            (into / f"{app}.tar").write_text(f"bedstone/{app}:{name} {self.images[app]}")
            return into / f"{app}.tar"
        if name in self.damaged:
            raise ResticError("The repository at offsite is damaged.", restic_errors.DAMAGED)
        (into / MEDIA).mkdir()
        (into / MEDIA / "invoice.pdf").write_text(f"paid {kind} {name}")
        return into / MEDIA

    def _configuration(self, directory: Path) -> Path:
        for app in ("payments", "wiki"):
            kept = directory / "state/apps" / app / "releases" / RELEASE
            kept.mkdir(parents=True)
            (kept / "app.json").write_text("{}")
            slots = directory / "state/apps" / app / "slots"
            slots.mkdir()
            (slots / "web@blue.json").write_text("{}")
        with closing(sqlite3.connect(directory / "ledger.sqlite")) as made:
            for script in database.MIGRATIONS:
                made.executescript(script)
            made.execute(f"PRAGMA user_version = {self.schema}")
            for app in ("payments", "wiki"):
                made.execute("INSERT INTO apps VALUES (?, ?, 'blue')", (app, RELEASE))
            made.commit()
        apps = {a: {"release": RELEASE, "image": f"sha256:{a}"} for a in ("payments", "wiki")}
        (directory / "contents.json").write_text(json.dumps({"apps": apps}))
        return directory


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    found = Elsewhere({"payments": "sha256:payments", "wiki": "sha256:wiki"})
    monkeypatch.setattr(copies, "snapshots_of", lambda _repository: found.snapshots())
    monkeypatch.setattr(copies, "fetch", found.fetch)
    return found


def bring(docker: FakeDocker | None = None) -> dict[str, Any]:
    return files.configuration(OFFSITE, lambda _words: None, cast("Docker", docker or FakeDocker()))


def serving() -> list[str]:
    with database.opened() as connection:
        return releases.known_apps(connection)


@pytest.mark.usefixtures("elsewhere")
def test_what_served_is_ready_to_serve_again() -> None:
    docker = FakeDocker()
    assert bring(docker)["releases"] == {"payments": RELEASE, "wiki": RELEASE}
    assert docker.loaded[f"bedstone/payments:{RELEASE}"] == "sha256:payments"
    assert (paths.release("payments", RELEASE) / "app.json").exists()
    assert serving() == ["payments", "wiki"]


@pytest.mark.usefixtures("elsewhere")
def test_slots_are_those_of_the_server_that_is_gone_and_stay_behind() -> None:
    bring()
    assert not paths.slots("payments").exists()


@pytest.mark.usefixtures("elsewhere")
def test_it_may_be_done_again_and_leaves_nothing_of_what_was_fetched() -> None:
    assert bring() == bring()
    assert not files.place().exists()


def test_an_app_whose_image_is_not_there_is_released_anew(elsewhere: Elsewhere) -> None:
    del elsewhere.images["wiki"]
    found = bring()
    assert found["releases"] == {"payments": RELEASE}
    assert "There is no image of wiki" in found["warnings"][0]
    assert serving() == ["payments"]


def test_an_image_that_is_another_one_does_not_serve(elsewhere: Elsewhere) -> None:
    elsewhere.images["wiki"] = "sha256:other"
    found = bring()
    assert list(found["releases"]) == ["payments"]
    assert "another id" in found["warnings"][0]


def test_without_a_configuration_all_apps_are_released_anew(elsewhere: Elsewhere) -> None:
    elsewhere.configured = False
    found = bring()
    assert found["releases"] == {}
    assert "No configuration" in found["warnings"][0]


def test_a_ledger_of_a_newer_program_is_refused(elsewhere: Elsewhere) -> None:
    elsewhere.schema = len(database.MIGRATIONS) + 1
    with pytest.raises(RefusedError) as caught:
        bring()
    assert "newer" in caught.value.message
    assert serving() == []


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Where the uploads of payments are to be."""
    directory = tmp_path / "srv/bedstone/payments/media"
    directory.parent.mkdir(parents=True)
    return directory


def uploads(media: Path, target: datetime | None = None) -> tuple[dict[str, Any], list[str]]:
    apps = (
        App("payments", "payments", "payments_owner", media),
        App("wiki", "wiki", "wiki_owner", None),
    )
    settings = Settings(media, 30, 8, 6, 3, 1, 1, "/run/postgresql", 5432, apps)
    return files.uploads(settings, OFFSITE, lambda _words: None, target)


@pytest.mark.usefixtures("elsewhere")
def test_uploads_are_put_in_place_and_counted(media: Path) -> None:
    for _ in range(2):
        found, warnings = uploads(media)
        assert found == {
            "payments": {"files": 1, "backup": "backup_1", "started": NIGHT.isoformat()}
        }
        assert warnings == []
        assert (media / "invoice.pdf").read_text() == "paid media backup_1"
        assert [path.name for path in media.parent.iterdir()] == ["media"]


@pytest.mark.parametrize(
    ("target", "taken"),
    [(None, "09"), (6, "06"), (7, "09"), (10, "09"), (2, "backup_1")],
    ids=["to the end", "exactly", "the first since", "the last before", "of the backup"],
)
def test_uploads_that_fit_the_databases_are_taken(
    elsewhere: Elsewhere, media: Path, target: int | None, taken: str
) -> None:
    elsewhere.copied = tuple(NIGHT.replace(hour=hour, minute=0) for hour in (6, 9))
    moment = None if target is None else NIGHT.replace(hour=target, minute=0)

    found, warnings = uploads(media, moment)

    assert found["payments"]["backup"] == taken
    assert (media / "invoice.pdf").read_text().endswith(taken)
    assert warnings == []


def test_damaged_uploads_give_way_to_those_of_the_backup_with_a_warning(
    elsewhere: Elsewhere, media: Path
) -> None:
    elsewhere.copied = (NIGHT.replace(hour=9),)
    elsewhere.damaged = ("09",)

    found, (warning,) = uploads(media)

    assert found["payments"]["backup"] == "backup_1"
    assert (media / "invoice.pdf").read_text() == "paid media backup_1"
    assert "2026-11-20 09:30:00 UTC can't be fetched (The repository at offsite is dam" in warning
    assert "backup_1 took their place" in warning


def test_the_words_say_what_came_back_and_what_did_not() -> None:
    said = rebuild.result_lines(
        {
            "kind": "cluster",
            "destination": "offsite",
            "backup": "20261120-010000F",
            "lsn": "0/5000000",
            "last_commit": "2026-11-20T17:03:11.5+00:00",
            "releases": {"payments": RELEASE},
            "media": {"payments": {"files": 12, "started": NIGHT.isoformat()}},
            "without_database": ["shop"],
            "warnings": ["The log has a hole."],
            "archived": {"local": "x", "offsite": "x"},
        }
    )
    assert "2026-11-20 17:03:11 UTC" in said[0]
    assert [line for line in said if RELEASE in line]
    assert "payments: 12 uploaded files, as of 2026-11-20 02:30:00 UTC." in said
    assert "shop: there was no database of it." in said
    assert "The log has a hole." in said
    assert "archived again at local, offsite" in said[-1]


def test_there_is_nothing_to_finish_without_a_rebuild() -> None:
    with pytest.raises(RefusedError):
        run.finish()
