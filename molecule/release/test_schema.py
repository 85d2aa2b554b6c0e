"""A changed schema, forth and back: what is accepted goes through, and a rollback undoes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from ledger_app import Ledger, Load, said_at
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-ledger-*", "bedstone-operation@ledger", "postgresql@*"]


@dataclass(frozen=True)
class Changed:
    """A release that has changed the schema and serves: the first test looks, the next undoes."""

    ledger: Ledger
    before: str
    version: str
    outcome: dict[str, Any]
    load: Load


# --- destructive -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dropped(host: Host, wait_until: Callable[..., None]) -> Changed:
    """An accepted release that has dropped a column."""
    ledger = Ledger(host, wait_until)
    before = ledger.plain()
    version = ledger.source("dropped", ["destructive"])
    outcome = ledger.release("--accept entries.0002_destructive")
    return Changed(ledger, before, version, outcome, Load("none"))


def test_accepted_migration_goes_through(dropped: Changed) -> None:
    ledger = dropped.ledger
    assert ledger.answer()["version"] == dropped.version
    assert ledger.migrated() == ["0002_destructive"]
    assert dropped.outcome["restore_point"] in ledger.host.check_output("bedstone backups ledger")


def test_accepted_destructive_migration_is_undone_before_the_switch(dropped: Changed) -> None:
    """The older release can't live without the column, so it comes back first."""
    ledger = dropped.ledger
    outcome = ledger.bedstone("rollback ledger")
    names = [step["name"] for step in outcome["steps"]]
    assert names.index("reverse") < names.index("switch")
    assert "after the switch" not in said_at(outcome, "reverse")
    assert ledger.migrated() == []
    assert ledger.answer()["version"] == dropped.before
    with ledger.load(seconds=1) as load:
        pass
    ledger.check_nothing_lost(load)


# --- additive --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def added(host: Host, wait_until: Callable[..., None]) -> Changed:
    """A release under load that has added a column and taken its time."""
    ledger = Ledger(host, wait_until)
    before = ledger.plain()
    with ledger.load() as load:
        version = ledger.source("added", ["additive", "long"])
        outcome = ledger.release()
        ledger.wait_until(lambda: ledger.answer()["version"] == version)
    return Changed(ledger, before, version, outcome, load)


def test_additive_and_slow_migrations_are_not_noticed(added: Changed) -> None:
    ledger = added.ledger
    ledger.check_nothing_lost(added.load)
    assert added.load.versions == {added.before, added.version}
    assert ledger.migrated() == ["0002_additive", "0003_long"]
    assert added.outcome["restore_point"]


def test_additive_migration_is_undone_without_a_failed_request(added: Changed) -> None:
    ledger = added.ledger
    with ledger.load() as load:
        outcome = ledger.bedstone("rollback ledger")
    ledger.check_nothing_lost(load)
    assert "2 to undo: entries.0003_long, entries.0002_additive" in said_at(outcome, "plan")
    assert outcome["restore_point"]
    assert ledger.migrated() == []
    assert ledger.answer()["version"] == added.before
    assert ledger.status()["ok"]
