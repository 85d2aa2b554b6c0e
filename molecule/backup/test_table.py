"""One table comes back beside what serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molecule.backup.conftest import Payments

UNITS = ["bedstone-backup.service"]


def test_deleted_rows_are_there_in_a_database_beside(payments: Payments) -> None:
    payments.backup()
    payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    before = payments.state()

    result = payments.restored("latest --table public.payment --into payments_look")
    assert (result["database"], result["table"]) == ("payments_look", "public.payment")
    assert (result["rows"], result["media"]) == (500, None)
    look = "SELECT count(*), sum(amount) FROM payment; SELECT count(*) FROM audit.entry"
    assert payments.admin(look, "payments_look").stdout.split() == ["500|125250.00", "0"]
    # The index that the extension serves, too.
    index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'payment' AND indexdef LIKE '%gin%'"
    assert payments.admin(index, "payments_look").stdout.strip() == "1"
    # What serves is as it was, but for the database beside.
    payments.admin("DROP DATABASE payments_look")
    assert payments.state() == before


def test_owners_and_privileges_are_those_of_the_backup(payments: Payments) -> None:
    payments.backup()
    payments.restored("latest --table payment --into payments_look")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'payment'"
    assert payments.admin(owner, "payments_look").stdout.strip() == "payments_owner"
    may = (
        "SELECT has_table_privilege('payments_app', 'payment', 'INSERT'),"
        " has_table_privilege('payments_app', 'audit.entry', 'DELETE'),"
        " has_database_privilege('other_app', 'payments_look', 'CONNECT')"
    )
    assert payments.admin(may, "payments_look").stdout.strip() == "t|f|f"


def test_table_that_is_not_there_is_refused_with_the_nearest(payments: Payments) -> None:
    payments.backup()
    before = payments.state()
    refused = payments.bedstone(
        "restore payments latest --table public.payments --into payments_look --yes"
    )
    assert refused.rc == 3
    assert "Did you mean public.payment?" in refused.stderr
    assert payments.state() == before


def test_table_is_never_put_in_place(payments: Payments) -> None:
    payments.backup()
    before = payments.state()
    refused = payments.bedstone("restore payments latest --table public.payment --yes")
    assert refused.rc == 3
    assert "--into payments_look" in refused.stderr
    assert payments.state() == before


def test_latest_leaves_restore_points_out(payments: Payments) -> None:
    path = payments.backup("--label nightly")
    point = f"{path.rpartition('/')[0]}/backup_29991231_235959"
    payments.host.check_output(f"cp -a {path} {point}")
    payments.rewrite(point, "restore_point=True, started=found.started + timedelta(seconds=1)")
    payments.sql("INSERT INTO payment (title, amount) VALUES ('later', 1)")

    listed = json.loads(payments.bedstone("backups payments --json").stdout)
    assert [entry["restore_point"] for entry in listed] == [True, False]
    assert "newest" in listed[1]["kept"]
    done = payments.bedstone("restore payments latest --yes")
    assert done.rc == 0, done.stderr
    assert f"restored {path}" in done.stdout
    assert f"The restore point {point.rpartition('/')[2]}" in done.stderr
