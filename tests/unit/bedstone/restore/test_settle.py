"""Visitors see a page while data is exchanged, and never a moment longer."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.appdata import journal
from bedstone.apps import maintenance, services
from bedstone.backup import create
from bedstone.cli import main
from bedstone.core import lock
from bedstone.core.errors import BedstoneError
from bedstone.postgres import dump, rename
from bedstone.restore import settle
from tests.unit.fixtures.backup import in_a_process_of_its_own, killed_in
from tests.unit.fixtures.daily import APP as SHOP

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from tests.unit.fixtures.backup import FakePostgres

APP = {**SHOP, "name": "payments"}


@pytest.fixture
def made(settings: Settings, postgres: FakePostgres, site: Path, root: Path) -> str:
    """The name of a backup, after which the data has changed; the app has a site."""
    directory = root / "etc/bedstone/apps/payments"
    directory.mkdir(parents=True)
    (directory / "app.json").write_text(json.dumps(APP))
    name = create.create(settings, "payments").backup.name
    postgres.put("payments", {"public.payment": 9})
    assert not site.exists()
    return name


def run(*arguments: str) -> int:
    return main.main(["restore", "payments", *arguments])


def seen(
    monkeypatch: pytest.MonkeyPatch, site: Path, module: Any, step: str, answer: Any = None
) -> list[bool]:
    """Note at each call of a function whether the page is shown."""
    real = getattr(module, step)
    shown: list[bool] = []

    def noting(*args: Any, **kwargs: Any) -> Any:
        shown.append(site.is_file())
        return real(*args, **kwargs) if answer is None else answer

    monkeypatch.setattr(module, step, noting)
    return shown


def test_it_is_shown_from_the_copy_to_the_restart_and_gone_afterwards(
    made: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_copy = seen(monkeypatch, site, dump, "load")
    at_swap = seen(monkeypatch, site, rename, "swap")
    at_restart = seen(monkeypatch, site, services, "restart", ("a unit",))
    assert run(made, "--yes") == 0
    assert (at_copy, at_swap, at_restart) == ([True], [True], [True])
    assert not site.exists()


def test_kept_serving_it_is_shown_for_the_swap_alone(
    made: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_copy = seen(monkeypatch, site, dump, "load")
    at_swap = seen(monkeypatch, site, rename, "swap")
    assert run(made, "--yes", "--keep-serving") == 0
    assert (at_copy, at_swap) == ([False], [True])
    assert not site.exists()


def test_restore_beside_shows_none(made: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_copy = seen(monkeypatch, site, dump, "load")
    assert run(made, "--yes", "--into", "payments_look") == 0
    assert at_copy == [False]


def test_page_of_an_operator_stays_as_it_was(made: str, site: Path) -> None:
    maintenance.turn_on("payments", "my own page")
    assert run(made, "--yes") == 0
    assert site.read_text() == "my own page"


def test_it_is_gone_after_a_failure(made: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BedstoneError("pg_restore failed")

    monkeypatch.setattr(dump, "load", fail)
    assert run(made, "--yes") == 1
    assert not site.exists()
    assert journal.load("payments") is None


def test_it_is_gone_when_the_app_does_not_start_again(
    made: str, site: Path, postgres: FakePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise BedstoneError("its services didn't start again")

    monkeypatch.setattr(services, "restart", fail)
    assert run(made, "--yes") == 1
    # What is broken is to be seen as that.
    assert not site.exists()
    assert postgres.rows("payments") == {"public.payment": 3}
    assert journal.load("payments") is None


@pytest.mark.parametrize(
    ("module", "step", "after", "rows"),
    [
        (maintenance, "turn_on", False, 9),
        (maintenance, "turn_on", True, 9),
        (dump, "load", False, 9),
        (rename, "swap", False, 9),
        (rename, "swap", True, 3),
        (services, "restart", False, 3),
        (maintenance, "turn_off", False, 3),
        (maintenance, "turn_off", True, 3),
    ],
)
def test_killed_at_any_step_it_is_gone_when_things_are_settled(
    made: str,
    site: Path,
    postgres: FakePostgres,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    after: bool,  # noqa: FBT001
    rows: int,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, step, killed_in(module, step, after=after))
        assert in_a_process_of_its_own(lambda: run(made, "--yes")) == -signal.SIGKILL
    assert postgres.rows("payments") == {"public.payment": rows}

    settle.settle("payments")
    assert not site.exists()
    assert journal.load("payments") is None
    assert postgres.rows("payments") == {"public.payment": rows}
    assert not [name for name in postgres.names() if "_restore_2" in name and "before" not in name]


def test_app_that_was_not_started_anew_is_when_things_are_settled(
    made: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(services, "restart", killed_in(services, "restart"))
        in_a_process_of_its_own(lambda: run(made, "--yes"))
    # It may hold on to the directory of uploads that was replaced.
    restarted = seen(monkeypatch, site, services, "restart", ("a unit",))
    settle.settle("payments")
    assert restarted == [True]
    assert not site.exists()


def test_settling_leaves_a_running_restore_alone(
    made: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(dump, "load", killed_in(dump, "load"))
        in_a_process_of_its_own(lambda: run(made, "--yes"))
    assert site.is_file()
    with lock.held("payments.backup", "bedstone restore payments"):
        settle.settle("payments")
    assert site.is_file()


def test_app_without_a_site_has_no_page(made: str, site: Path, root: Path) -> None:
    (root / "etc/nginx/bedstone/sites/payments.conf").unlink()
    assert run(made, "--yes") == 0
    assert not site.exists()


def test_journal_of_an_earlier_version_is_read(settings: Settings, root: Path) -> None:
    assert settings.apps
    path = root / "var/lib/bedstone/apps/payments/restore.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"app": "payments", "backup": "x", "database": None, "media": None}))
    found = journal.load("payments")
    assert found is not None
    assert not found.page
