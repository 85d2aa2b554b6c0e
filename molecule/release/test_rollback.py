"""Back to a release that has served (under load: test_changes.py; migrations: test_schema.py)."""

from __future__ import annotations

import re

import pytest
from ledger_app import ENVIRONMENT, Ledger, said_at
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-ledger-*", "bedstone-operation@ledger", "nginx.service"]


def test_rollback_has_nothing_to_do_for_an_equal_schema(ledger: Ledger) -> None:
    before, _ = ledger.two()
    outcome = ledger.bedstone("rollback ledger")
    assert ledger.answer()["version"] == before
    assert "the same schema" in said_at(outcome, "plan")
    assert outcome["restore_point"] is None


def test_rollback_to_a_named_release(ledger: Ledger) -> None:
    version, release = ledger.answer()["version"], ledger.status()["release"]
    for _ in range(2):
        ledger.fresh()
    outcome = ledger.bedstone(f"rollback ledger {release}")
    assert (outcome["release"], ledger.answer()["version"]) == (release, version)
    assert ledger.status()["release"] == release


def test_what_was_rolled_back_is_released_by_hand_alone_and_no_rollback_leads_to_it(
    ledger: Ledger,
) -> None:
    good = ledger.answer()["version"]
    bad, release = ledger.fresh()
    ledger.bedstone("rollback ledger")
    held = ledger.release("--if-changed")
    assert held["changed"] is False
    assert "rolled back" in " ".join(held["warnings"])
    assert ledger.answer()["version"] == good
    again = ledger.release()["release"]
    assert again > release
    assert ledger.answer()["version"] == bad
    # The release before it by time is the one that was rolled back from.
    ledger.bedstone("rollback ledger")
    assert ledger.answer()["version"] == good


def test_irreversible_migration_is_refused_and_the_named_way_back_works(
    host: Host, ledger: Ledger
) -> None:
    before, release = ledger.answer()["version"], ledger.status()["release"]
    host.check_output("bedstone job ledger report")
    reports = "SELECT entries FROM entries_report ORDER BY id"
    then = ledger.sql(reports)
    assert "-1" not in then.split()
    version = ledger.source("lossy", ["irreversible"])
    ledger.release()
    assert set(ledger.sql(reports).split()) == {"-1"}

    refused = ledger.fails("rollback ledger")
    assert refused["failed_step"] == "plan"
    assert "can't be undone" in refused["error"]
    assert "entries.0002_irreversible" in refused["details"]
    assert ledger.answer()["version"] == version, "it serves on"
    assert ledger.status()["ok"]

    point = re.search(r"restore point of then is (\S+);", refused["hint"])
    assert point, refused["hint"]
    commands = [line.strip() for line in refused["hint"].splitlines() if line[:2] == "  "]
    assert [command.split()[1] for command in commands] == [
        *("maintenance", "restore", "rollback", "maintenance"),
    ]
    assert point[1] in commands[1]
    for command in commands:
        # A person answers the question; this test can't.
        host.check_output(f"{command} --yes" if " restore " in command else command)
    assert (ledger.answer()["version"], ledger.status()["release"]) == (before, release)
    assert ledger.sql(reports) == then
    assert ledger.migrated() == []
    with ledger.load(seconds=1) as load:
        pass
    ledger.check_nothing_lost(load)


def test_rotated_secret_stays_rotated_unless_the_old_one_is_asked_for(
    host: Host, ledger: Ledger
) -> None:
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", ENVIRONMENT, kept)
    try:
        assert ledger.answer()["secret"] == "first-mark"
        host.check_output("sed -i s/^MARK=.*/MARK=second-mark/ %s", ENVIRONMENT)
        _, newer = ledger.fresh()
        assert ledger.answer()["secret"] == "second-mark"
        outcome = ledger.bedstone("rollback ledger")
        assert ledger.answer()["secret"] == "second-mark"
        old = outcome["release"]
        ledger.bedstone(f"rollback ledger {newer}")
        ledger.bedstone(f"rollback ledger {old} --old-secrets")
        assert ledger.answer()["secret"] == "first-mark"
    finally:
        host.check_output("mv %s %s", kept, ENVIRONMENT)
