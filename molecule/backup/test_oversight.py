"""`bedstone status` shows the database server's health, before it stops."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from molecule.backup.conftest import Payments

UNITS = ["bedstone-backup.service"]


def database(payments: Payments) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(payments.bedstone("status --json").stdout)["database"]
    return found


def ledger(payments: Payments, sql: str) -> list[Any]:
    script = (
        "import json, sqlite3; ledger = sqlite3.connect('/var/lib/bedstone/ledger.sqlite');"
        f" rows = ledger.execute('{sql}').fetchall(); ledger.commit(); print(json.dumps(rows))"
    )
    rows: list[Any] = json.loads(payments.host.check_output(f'python3 -c "{script}"'))
    return rows


def test_server_that_is_well_is_one_line(payments: Payments) -> None:
    found = database(payments)
    assert found["error"] is None
    assert found["problems"] == []
    assert found["checksums"]["failures"] == 0
    assert "payments" in [entry["name"] for entry in found["databases"]]
    assert {table["table"] for table in found["tables"]} == {"public.payment", "audit.entry"}
    said = payments.bedstone("status").stdout
    assert "PostgreSQL 1" in said
    assert "transaction ids" in said


def test_nightly_run_measures(payments: Payments) -> None:
    payments.backup()
    ledger(payments, "DELETE FROM measurements")
    payments.host.check_output("systemctl start bedstone-backup.service")
    rows = ledger(payments, "SELECT kind, name, bytes FROM measurements")
    sizes = {name: size for kind, name, size in rows if kind == "database"}
    assert sizes["payments"] > 1024**2
    assert any(kind == "free" and size > 0 for kind, _, size in rows)


def test_transaction_that_was_left_open_is_named(
    payments: Payments, wait_until: Callable[..., None]
) -> None:
    payments.host.check_output(
        "systemd-run --quiet --collect --unit bedstone-test-idle --uid postgres"
        " --working-directory=/ --setenv PGAPPNAME=forgotten"
        " sh -c '(echo \"BEGIN; SELECT 1;\"; sleep 600) | psql -Xq -d payments'"
    )
    try:
        wait_until(lambda: database(payments)["idle_in_transaction"], seconds=60, what="it is idle")
        (session,) = database(payments)["idle_in_transaction"]
        assert (session["program"], session["database"]) == ("forgotten", "payments")
    finally:
        payments.host.check_output("systemctl stop bedstone-test-idle")


def test_table_that_autovacuum_leaves_alone_is_named(
    payments: Payments, wait_until: Callable[..., None]
) -> None:
    payments.admin("ALTER TABLE audit.entry SET (autovacuum_enabled = false)", "payments")
    payments.admin(
        "INSERT INTO audit.entry (payment) SELECT 1 FROM generate_series(1, 20000)", "payments"
    )
    payments.admin("UPDATE audit.entry SET payment = 2", "payments")
    # A session's statistics are there when its process has ended, after psql.
    wait_until(lambda: database(payments)["problems"], seconds=60)
    (problem,) = database(payments)["problems"]
    assert "doesn't keep up with audit.entry (payments)" in problem
    assert "It is switched off for this table" in problem
    said = payments.bedstone("status").stdout
    assert "PostgreSQL: autovacuum doesn't keep up with audit.entry" in said
    command = problem.partition("`")[2].partition("`")[0]
    payments.host.check_output(f"cd / && {command}")
    wait_until(lambda: database(payments)["problems"] == [], seconds=60)


def test_server_that_is_down_is_the_problem(payments: Payments) -> None:
    payments.host.check_output("systemctl stop 'postgresql@*'")
    try:
        found = database(payments)
        assert "doesn't answer" in found["error"]
    finally:
        payments.host.check_output("systemctl start postgresql && systemctl restart 'postgresql@*'")
