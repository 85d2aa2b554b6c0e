"""A backup is finished or it is not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import catalog, create, manifest, media
from bedstone.cli import main
from bedstone.core import disk, files, lock, process
from bedstone.core.disk import DiskFullError
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.ledger import backups
from bedstone.ledger import database as ledger
from bedstone.postgres import dump
from tests.unit.fixtures.backup import in_a_process_of_its_own, killed_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.settings import Settings

pytestmark = pytest.mark.usefixtures("postgres")


def entries(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.directory / "payments").iterdir())


def test_finished_backup_says_what_it_holds(settings: Settings) -> None:
    made = create.create(settings, "payments", label="import").backup
    assert made.good
    assert made.manifest is not None
    assert made.manifest.app == "payments"
    assert made.manifest.label == "import"
    assert made.manifest.database is not None
    assert made.manifest.database.rows == {"public.payment": 3}
    assert made.manifest.media is not None
    assert made.manifest.media.files == 1
    assert set(made.manifest.files) >= {"database/toc.dat", "database/3409.dat.zst"}
    assert catalog.NAME.fullmatch(made.name)
    assert not list(manifest.damages(made.path, made.manifest, contents=True))


def test_backup_is_roots_alone(settings: Settings) -> None:
    made = create.create(settings, "payments").backup
    for path in (made.path.parent, made.path):
        assert path.stat().st_mode & 0o077 == 0
    assert (made.path / manifest.FILE).stat().st_mode & 0o077 == 0


def test_apps_settings_go_along(root: Path, settings: Settings) -> None:
    config = root / "etc/bedstone/apps/payments/app.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"schema": 1}')
    made = create.create(settings, "payments").backup
    assert (made.path / "app.json").read_text() == '{"schema": 1}'


def test_directory_of_the_caller_is_used(tmp_path: Path, settings: Settings) -> None:
    made = create.create(settings, "payments", directory=tmp_path / "pre-deployment").backup
    assert made.path.parent == tmp_path / "pre-deployment/payments"
    assert not (settings.directory / "payments").exists()


def test_two_in_the_same_second_have_two_names(settings: Settings) -> None:
    names = {create.create(settings, "payments").backup.name for _ in range(3)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (dump, "dump"),
        (media, "archive"),
        (manifest, "describe"),
        (manifest, "write"),
        (files, "sync_directory"),
    ],
)
def test_failure_in_any_step_leaves_no_name_and_a_record(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BedstoneError(f"{step} failed")

    with monkeypatch.context() as patched:
        patched.setattr(module, step, fail)
        with pytest.raises(BedstoneError, match=f"{step} failed"):
            create.create(settings, "payments")
    assert not [name for name in entries(settings) if catalog.NAME.fullmatch(name)]
    with ledger.opened() as connection:
        row = connection.execute("SELECT app, state, error FROM backups").fetchone()
    assert tuple(row) == ("payments", "failed", f"{step} failed")


@pytest.mark.parametrize(
    ("module", "step", "after"),
    [
        (dump, "dump", False),
        (dump, "dump", True),
        (media, "archive", True),
        (manifest, "describe", False),
        (manifest, "write", True),
    ],
)
def test_killed_backup_has_no_name_and_the_next_one_cleans_up(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    after: bool,  # noqa: FBT001
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, step, killed_in(module, step, after=after))
        ended = in_a_process_of_its_own(lambda: create.create(settings, "payments"))
    assert ended == -signal.SIGKILL
    assert all(name.startswith(catalog.INCOMPLETE) for name in entries(settings))
    assert catalog.newest(settings.directory / "payments", points=True) is None

    made = create.create(settings, "payments").backup
    assert entries(settings) == [made.name]


def test_second_backup_at_once_is_told_who_is_at_it(settings: Settings) -> None:
    with (
        lock.held("payments.backup", "bedstone backup payments"),
        pytest.raises(lock.LockedError) as caught,
    ):
        create.create(settings, "payments")
    assert "bedstone backup payments" in caught.value.message
    assert f"process {os.getpid()}" in caught.value.message
    assert f"since {datetime.now(UTC):%Y-%m-%d}" in caught.value.message


def test_backup_that_would_take_the_reserve_does_not_begin(
    configure: Callable[..., Settings],
) -> None:
    settings = configure(reserve_mb=10**9)
    with pytest.raises(DiskFullError, match=r"needs about .* has to leave .* free"):
        create.create(settings, "payments")
    assert entries(settings) == []


def test_backup_that_outgrows_its_estimate_is_stopped_and_removed(
    configure: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configure(reserve_mb=100)
    free = iter([10**9])
    monkeypatch.setattr(disk, "free_bytes", lambda _: next(free, 10**6))

    def slow(*_: object, watch: Callable[[], None], **__: object) -> None:
        process.run(["sleep", "60"], timeout=None, watch=watch)

    monkeypatch.setattr(dump, "dump", slow)
    with pytest.raises(DiskFullError, match="was stopped"):
        create.create(settings, "payments")
    assert entries(settings) == []


@pytest.mark.parametrize(
    ("database", "media_size", "expected"),
    [(1000, 0, 125), (2000, 0, 250), (500, 0, 125), (1000, 1000, 250)],
)
def test_estimate_grows_with_the_data(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    database: int,
    media_size: int,
    expected: int,
) -> None:
    (last,) = [create.create(settings, "payments").backup.manifest]
    assert last is not None
    monkeypatch.setattr(manifest.Manifest, "bytes", 100)
    assert last.media is not None
    object.__setattr__(last.media, "bytes", 0)
    assert create.estimate(last, database, media_size) == expected


def test_first_backup_is_estimated_by_what_it_is_made_of() -> None:
    assert create.estimate(None, 1000, 50) == 1050


def test_missing_media_directory_is_an_error(settings: Settings, media: Path) -> None:
    shutil.rmtree(media)
    with pytest.raises(BedstoneError, match="media directory"):
        create.create(settings, "payments")


def test_damaged_ledger_does_not_prevent_a_backup(root: Path, settings: Settings) -> None:
    (root / "var/lib/bedstone").mkdir(parents=True)
    (root / "var/lib/bedstone/ledger.sqlite").write_text("this is no database, but long enough" * 9)
    assert create.create(settings, "payments").backup.good


def test_command_tries_every_app_and_fails_when_one_does(
    configure: Callable[..., Settings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = [
        {"app": "gone", "name": "gone", "owner": "gone_owner"},
        {"app": "payments", "name": "payments", "owner": "payments_owner"},
    ]
    configure(databases=both)
    assert main.main(["backup", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [entry["app"] for entry in result["failed"]] == ["gone"]
    assert [entry["app"] for entry in result["backups"]] == ["payments"]


def test_full_disk_is_told_in_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifest, "write", full)
    assert main.main(["backup"]) == 1
    assert "payments: [Errno 28] No space left on device" in capsys.readouterr().err
    assert entries(settings) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_backup_that_is_ended_removes_what_it_had_begun(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def ended(*_: object) -> None:
        signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(manifest, "write", ended)
    assert main.main(["backup"]) == 130
    assert entries(settings) == []
    assert signal.getsignal(number) == before
    with ledger.opened() as connection:
        assert connection.execute("SELECT state FROM backups").fetchone()["state"] == "failed"


def test_unknown_app_is_named_with_the_nearest(settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.app("payment")
    assert caught.value.hint == "Did you mean 'payments'?"


def test_app_without_a_database_is_backed_up_by_its_media(
    configure: Callable[..., Settings],
) -> None:
    made = create.create(configure(databases=[]), "payments").backup
    assert made.manifest is not None
    assert made.manifest.database is None
    assert made.manifest.media is not None


def test_list_shows_what_is_wrong(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    good = create.create(settings, "payments").backup
    bad = create.create(settings, "payments").backup
    (bad.path / "database/3409.dat.zst").write_text("y" * 500)
    assert main.main(["backups"]) == 0
    assert "changed" not in capsys.readouterr().out
    assert main.main(["backups", "--check"]) == 1
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines[good.name].endswith("intact")
    assert "3409.dat.zst has changed" in lines[bad.name]


def test_list_says_that_the_last_backup_failed(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create.create(settings, "payments")
    monkeypatch.setattr(dump, "dump", lambda *_, **__: (_ for _ in ()).throw(BedstoneError("Oh.")))
    assert main.main(["backup"]) == 1
    capsys.readouterr()
    main.main(["backups"])
    assert "THE LAST BACKUP FAILED" in capsys.readouterr().out.splitlines()[-1]


def test_a_failure_is_seen_although_the_clock_was_ahead_before(settings: Settings) -> None:
    ahead = datetime.now(UTC) + timedelta(days=400)
    backups.succeeded("payments", settings.directory, None, ahead, 1)
    backups.failed("payments", None, datetime.now(UTC), "the disk is full")

    failure = backups.last_failure("payments")

    assert failure is not None
    assert failure[1] == "the disk is full"
