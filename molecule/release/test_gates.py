"""A release that is incompatible with the running one is stopped before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ledger_app import Ledger
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-operation@ledger", "postgresql@*"]
HELD = (
    "SELECT count(*) FROM pg_locks WHERE relation = 'entries_entry'::regclass"
    " AND mode = 'AccessExclusiveLock' AND NOT granted"
)


@pytest.mark.parametrize(
    ("migration", "rule", "why"),
    [
        ("destructive", "drop-column", "still names the column in every SELECT and INSERT"),
        ("not_null", "not-null-without-default", "leaves it out of its INSERTs"),
    ],
    ids=("destructive", "not_null"),
)
def test_breaking_migration_is_stopped_with_words_that_help(
    ledger: Ledger, migration: str, rule: str, why: str
) -> None:
    before, release = ledger.answer(), ledger.status()["release"]
    ledger.source("breaking", [migration])
    run = ledger.host.run("bedstone release ledger --json")
    assert run.rc == 3
    stopped = ledger.fails("release ledger")
    assert stopped["failed_step"] == "plan"
    assert f"entries.0002_{migration}: {rule}" in stopped["error"]
    assert why in stopped["error"]
    assert "do:" in stopped["error"]
    assert f'bedstone_accepts = ["{rule}"]' in stopped["error"]
    assert f"bedstone release ledger --accept entries.0002_{migration}" in stopped["error"]
    assert "Nothing was changed" in stopped["hint"]
    assert (ledger.answer(), ledger.status()["release"]) == (before, release)
    assert ledger.migrated() == []
    assert stopped["restore_point"] is None


@contextmanager
def table_held(host: Host, ledger: Ledger) -> Iterator[None]:
    """A transaction left open holds the table as an INSERT does."""
    unit = "held-table"
    statement = (
        "BEGIN; SET application_name = 'held-table';"
        "LOCK TABLE entries_entry IN ROW EXCLUSIVE MODE; SELECT pg_sleep(600)"
    )
    host.check_output(
        "systemd-run --quiet --collect --unit=%s --uid=postgres psql -d ledger -c %s",
        unit,
        statement,
    )
    held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'held-table'"
    ledger.wait_until(lambda: ledger.sql(held) == "1", what="the table is held")
    try:
        yield
    finally:
        host.run(
            "runuser -u postgres -- psql -c %s",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'held-table'",
        )


def test_migration_that_waits_for_a_lock_holds_nobody_up(host: Host, ledger: Ledger) -> None:
    before = ledger.answer()["version"]
    with ledger.load() as load:
        with table_held(host, ledger):
            version = ledger.source("late", ["locking"])
            host.check_output("systemd-run --quiet --collect bedstone release ledger")
            ledger.wait_until(lambda: ledger.sql(HELD) != "0", seconds=300, what="it waits")
            ledger.wait_until(lambda: ledger.sql(HELD) == "0", what="it gives up")
            written = len(ledger.written(load))
            ledger.wait_until(
                lambda: len(ledger.written(load)) > written + 10, what="requests write on"
            )
        outcome = ledger.bedstone("watch ledger")
    ledger.check_nothing_lost(load)
    migrate = next(step for step in outcome["steps"] if step["name"] == "migrate")
    assert "a table was locked" in migrate["said"]
    assert ledger.migrated() == ["0002_locking"]
    assert load.versions == {before, version}
