"""A restore refuses before it touches, and loses nothing when it is killed."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.appdata import journal
from bedstone.apps import services
from bedstone.backup import create, manifest
from bedstone.cli import main
from bedstone.core import lock
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import dump, rename
from bedstone.restore import check
from bedstone.storage import tar
from tests.unit.fixtures.backup import in_a_process_of_its_own, killed_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.backup.settings import Settings
    from tests.unit.fixtures.backup import FakePostgres


@pytest.fixture
def made(settings: Settings, postgres: FakePostgres, media: Path) -> Path:
    """A backup, after which the data has changed."""
    path = create.create(settings, "payments").backup.path
    postgres.put("payments", {"public.payment": 9})
    (media / "invoice.pdf").write_text("the second")
    return path


def rewrite(path: Path, **changes: Any) -> None:
    """Change a manifest as another server would have written it."""
    found = manifest.read(path)
    if database := changes.pop("database", None):
        assert found.database is not None
        changes["database"] = replace(found.database, **database)
    manifest.write(path, replace(found, **changes))


def run(*arguments: str) -> int:
    return main.main(["restore", "payments", *arguments])


@pytest.mark.usefixtures("made")
def test_restored_data_serves_and_the_former_is_kept(
    postgres: FakePostgres, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("latest", "--yes", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert postgres.rows("payments") == {"public.payment": 3}
    assert postgres.rows(result["old_database"]) == {"public.payment": 9}
    assert result["old_database"].startswith("payments_before_restore_")
    assert (media / "invoice.pdf").read_text() == "the first"
    assert (Path(result["old_media"]) / "invoice.pdf").read_text() == "the second"


def test_command_that_drops_the_former_data_is_printed(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(made.name, "--yes") == 0
    output = capsys.readouterr().out
    assert "runuser -u postgres -- dropdb" in output
    assert "rm -r /" in output


def garble_toc(path: Path) -> None:
    (path / "database/toc.dat").write_bytes(b"garbage")


def truncate(path: Path) -> None:
    with (path / "database/3409.dat.zst").open("r+b") as file:
        file.truncate(100)


def flip(path: Path) -> None:
    data = bytearray((path / "database/3409.dat.zst").read_bytes())
    data[250] ^= 1
    (path / "database/3409.dat.zst").write_bytes(data)


def flip_manifest(path: Path) -> None:
    text = (path / manifest.FILE).read_text()
    (path / manifest.FILE).write_text(text.replace('"public.payment": 3', '"public.payment": 4'))


def unreadable_but_recorded(path: Path) -> None:
    garble_toc(path)
    found = manifest.read(path)
    rewrite(
        path,
        files={**found.files, "database/toc.dat": manifest.describe(path / "database/toc.dat")},
    )


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda path: (path / manifest.FILE).unlink(), "isn't a backup of bedstone"),
    "manifest is no JSON": (
        lambda path: (path / manifest.FILE).write_text("{"),
        "damaged: it can't be read",
    ),
    "another program's": (
        lambda path: (path / manifest.FILE).write_text('{"kind": "other"}'),
        "another program made it",
    ),
    "changed manifest": (flip_manifest, "checksum doesn't match"),
    "garbage": (garble_toc, "toc.dat is truncated"),
    "truncated": (truncate, "3409.dat.zst is truncated: 100 of 500 bytes"),
    "flipped bit": (flip, "3409.dat.zst has changed"),
    "missing file": (lambda path: (path / "database/toc.dat").unlink(), "toc.dat is missing"),
    "missing media": (lambda path: next(path.glob("media*")).unlink(), "is missing"),
    "unreadable dump": (unreadable_but_recorded, "pg_restore can't read"),
    "another app's": (
        lambda path: rewrite(path, app="other"),
        "a backup of other, not of payments",
    ),
    "newer PostgreSQL": (
        lambda path: rewrite(path, database={"server_major": 18}),
        "comes from PostgreSQL 18, and this server has 17",
    ),
    "unknown roles": (
        lambda path: rewrite(path, database={"roles": ["analyst"]}),
        "roles that this server doesn't have: analyst",
    ),
    "missing extension": (
        lambda path: rewrite(path, database={"extensions": {"postgis": "3.5"}}),
        "extensions that this server doesn't have: postgis",
    ),
    "newer manifest": (
        lambda path: (path / manifest.FILE).write_text(
            (path / manifest.FILE).read_text().replace('"schema": 1', '"schema": 99')
        ),
        "made by a newer bedstone",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_foreign_backup_is_refused_and_nothing_is_touched(
    made: Path,
    postgres: FakePostgres,
    media: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    harm, message = DAMAGES[damage]
    harm(made)
    assert run(str(made), "--yes") == 3
    assert message in capsys.readouterr().err
    assert postgres.names() == ["payments"]
    assert postgres.rows("payments") == {"public.payment": 9}
    assert (media / "invoice.pdf").read_text() == "the second"


@pytest.mark.usefixtures("postgres")
def test_backup_from_before_another_password_is_restored(made: Path) -> None:
    rewrite(made, database={"roles": ["payments_app", "payments_app_1a2b3c4d", "payments_owner"]})
    assert run(str(made), "--yes") == 0


@pytest.mark.usefixtures("made")
def test_restore_that_would_fill_the_disk_is_refused(
    configure: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(reserve_mb=10**9)
    assert run("latest", "--yes") == 3
    assert "has to leave" in capsys.readouterr().err


def test_incomplete_directory_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = made.with_name(".incomplete-backup_20261120_020000")
    shutil.copytree(made, half)
    assert run(str(half), "--yes") == 3
    assert "isn't a finished backup" in capsys.readouterr().err


def test_unknown_name_lists_what_there_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("backup_20200101_000000", "--yes") == 3
    assert made.name in capsys.readouterr().err


@pytest.mark.usefixtures("made")
def test_latest_is_the_newest_complete_one(settings: Settings, postgres: FakePostgres) -> None:
    newer = create.create(settings, "payments").backup.path
    truncate(newer)
    postgres.put("payments", {"public.payment": 50})
    assert run("latest", "--yes") == 0
    assert postgres.rows("payments") == {"public.payment": 3}


@pytest.mark.usefixtures("made")
def test_nobody_to_answer_is_a_refusal(
    postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("latest") == 3
    error = capsys.readouterr().err
    assert "REPLACED" in error
    assert "--yes" in error
    assert postgres.rows("payments") == {"public.payment": 9}


@pytest.mark.parametrize(("answer", "code"), [("payments", 0), ("yes", 3), ("", 3)])
@pytest.mark.usefixtures("made")
def test_person_types_the_apps_name(
    monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert run("latest") == code


@pytest.mark.usefixtures("made")
def test_other_number_of_rows_is_never_put_in_place(
    postgres: FakePostgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dump, "count", lambda *_: {"public.payment": 2})
    assert run("latest", "--yes") == 1
    assert "public.payment: 3 in the backup, 2 restored" in capsys.readouterr().err
    assert postgres.names() == ["payments"]
    assert postgres.rows("payments") == {"public.payment": 9}


@pytest.mark.usefixtures("made")
def test_restores_within_one_second_keep_the_former_data_of_each(
    postgres: FakePostgres, media: Path
) -> None:
    for _ in range(3):
        assert run("latest", "--yes") == 0
    kept = [name for name in postgres.names() if "_before_restore_" in name]
    assert len(kept) == 3
    assert len(list(media.parent.glob("media_before_restore_*"))) == 3


@pytest.mark.usefixtures("made")
def test_restore_beside_leaves_what_serves_alone(postgres: FakePostgres, media: Path) -> None:
    assert run("latest", "--yes", "--into", "payments_look") == 0
    assert postgres.rows("payments") == {"public.payment": 9}
    assert postgres.rows("payments_look") == {"public.payment": 3}
    assert (media / "invoice.pdf").read_text() == "the second"


@pytest.mark.parametrize("name", ["payments", "Payments", "a-b", 'x"; DROP', "x" * 64])
@pytest.mark.usefixtures("made")
def test_name_beside_that_is_taken_or_odd_is_refused(postgres: FakePostgres, name: str) -> None:
    assert run("latest", "--yes", "--into", name) == 3
    assert postgres.names() == ["payments"]


@pytest.mark.usefixtures("made")
def test_without_media_the_files_stay(postgres: FakePostgres, media: Path) -> None:
    assert run("latest", "--yes", "--no-media") == 0
    assert postgres.rows("payments") == {"public.payment": 3}
    assert (media / "invoice.pdf").read_text() == "the second"


@pytest.mark.usefixtures("made")
def test_server_without_the_database_gets_it(postgres: FakePostgres, media: Path) -> None:
    postgres.drop("payments")
    shutil.rmtree(media)
    assert run("latest", "--yes") == 0
    assert postgres.names() == ["payments"]
    assert postgres.rows("payments") == {"public.payment": 3}
    assert (media / "invoice.pdf").read_text() == "the first"


@pytest.mark.usefixtures("made")
def test_release_and_restore_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with lock.held("payments", "release payments"):
        assert run("latest", "--yes") == 3
    assert "release payments" in capsys.readouterr().err


def test_other_apps_backup_is_taken_when_asked_for(made: Path, postgres: FakePostgres) -> None:
    rewrite(made, app="other")
    assert run(str(made), "--yes", "--from-other-app") == 0
    assert postgres.rows("payments") == {"public.payment": 3}


STEPS_BEFORE = [
    (journal.Journal, "save", True),
    (dump, "load", False),
    (dump, "load", True),
    (dump, "count", False),
    (tar, "extract", False),
    (tar, "extract", True),
    (rename, "swap", False),
]


@pytest.mark.parametrize(("module", "step", "after"), STEPS_BEFORE)
@pytest.mark.usefixtures("made")
def test_killed_before_the_swap_the_old_data_serves_and_the_next_run_cleans_up(
    settings: Settings,
    postgres: FakePostgres,
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    after: bool,  # noqa: FBT001
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, step, killed_in(module, step, after=after))
        assert in_a_process_of_its_own(lambda: run("latest", "--yes")) == -signal.SIGKILL
    assert postgres.rows("payments") == {"public.payment": 9}
    assert (media / "invoice.pdf").read_text() == "the second"

    create.create(settings, "payments")
    assert postgres.names() == ["payments"]
    assert [path.name for path in media.parent.iterdir()] == ["media"]


@pytest.mark.parametrize(
    ("module", "step", "after"),
    [(rename, "swap", True), (journal, "_swap_directory", False), (journal, "_exchange", True),
     (journal, "_swap_directory", True), (journal.Journal, "clear", False)],
)  # fmt: skip
@pytest.mark.usefixtures("made")
def test_killed_after_the_swap_the_next_run_finishes(
    settings: Settings,
    postgres: FakePostgres,
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    after: bool,  # noqa: FBT001
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, step, killed_in(module, step, after=after))
        assert in_a_process_of_its_own(lambda: run("latest", "--yes")) == -signal.SIGKILL
    assert postgres.rows("payments") == {"public.payment": 3}

    create.create(settings, "payments")
    (old,) = media.parent.glob("media_before_restore_*")
    assert (media / "invoice.pdf").read_text() == "the first"
    assert (old / "invoice.pdf").read_text() == "the second"
    assert sorted(path.name for path in media.parent.iterdir()) == ["media", old.name]


@pytest.mark.usefixtures("made")
def test_apps_service_that_fails_to_start_does_not_keep_backups_from_running(
    made: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise BedstoneError("its services didn't start again")

    monkeypatch.setattr(services, "restart", fail)
    assert run(str(made), "--yes") == 1
    assert create.create(settings, "payments").backup.good


def test_long_name_of_a_database_fits_postgresqls_limit(
    configure: Callable[..., Settings], postgres: FakePostgres
) -> None:
    name = "d" * 60
    postgres.put(name, {"public.payment": 1})
    configure(databases=[{"app": "payments", "name": name, "owner": "payments_owner"}])
    assert main.main(["backup"]) == 0
    assert run("latest", "--yes") == 0
    assert max(len(found) for found in postgres.names()) == 63
    assert len(postgres.names()) == 3


def test_media_on_a_file_system_of_its_own_are_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    assert run(str(made), "--yes") == 3
    assert "--no-media" in capsys.readouterr().err


def test_failure_while_restoring_removes_what_was_beside(
    postgres: FakePostgres, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BedstoneError("pg_restore failed")

    monkeypatch.setattr(tar, "extract", fail)
    assert run("latest", "--yes") == 1
    assert postgres.names() == ["payments"]
    assert [path.name for path in media.parent.iterdir()] == ["media"]
    assert journal.load("payments") is None


def test_check_alone_changes_nothing(
    made: Path, settings: Settings, postgres: FakePostgres
) -> None:
    plan = check.check(settings, settings.app("payments"), made)
    assert plan.replaces
    assert "is REPLACED" in plan.describe()
    assert postgres.names() == ["payments"]


def test_media_are_refused_where_there_are_none(
    made: Path, configure: Callable[..., Settings]
) -> None:
    settings = configure(media=[])
    with pytest.raises(RefusedError, match="--media asks"):
        check.check(settings, settings.app("payments"), made, with_media=True)


def test_differences_name_each_table() -> None:
    assert manifest.differences({"a": 1, "b": 2}, {"a": 1, "c": 3}) == [
        "b: 2 in the backup, no such table restored",
        "c: no such table in the backup, 3 restored",
    ]
