"""A backup is restored next to the serving data, to inspect it or to copy rows out of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molecule.backup.conftest import Payments

UNITS = ["bedstone-backup.service"]


def test_deleted_rows_are_in_the_database_next_to_it(payments: Payments) -> None:
    payments.backup()
    payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    before = payments.state()

    result = payments.restored("latest --into payments_look")
    assert (result["database"], result["media"]) == ("payments_look", None)
    look = "SELECT count(*), sum(amount) FROM payment"
    assert payments.admin(look, "payments_look").stdout.split()[0] == "500|125250.00"
    # The index that the extension serves, too.
    index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'payment' AND indexdef LIKE '%gin%'"
    assert payments.admin(index, "payments_look").stdout.strip() == "1"
    assert payments.rows() == 0, "what serves is as it was"
    # As docs/operations.md says.
    copied = payments.host.run(
        "cd / && runuser -u postgres -- psql payments_look"
        " -c 'COPY (SELECT * FROM public.payment) TO STDOUT' > /dev/shm/rows"
    )
    assert copied.rc == 0, copied.stderr
    done = payments.sql("\\copy public.payment FROM /dev/shm/rows", "payments_migrate")
    assert done.rc == 0, done.stderr
    assert payments.rows() == 500
    payments.admin("DROP DATABASE payments_look")
    payments.sql("DELETE FROM payment", "payments_migrate")
    payments.sql("DELETE FROM audit.entry", "payments_migrate")
    assert payments.state() == before


def test_owners_and_privileges_are_those_of_the_backup(payments: Payments) -> None:
    payments.backup()
    payments.restored("latest --into payments_look")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'payment'"
    assert payments.admin(owner, "payments_look").stdout.strip() == "payments_owner"
    may = (
        "SELECT has_table_privilege('payments_app', 'payment', 'INSERT'),"
        " has_table_privilege('payments_app', 'audit.entry', 'DELETE'),"
        " has_database_privilege('other_app', 'payments_look', 'CONNECT')"
    )
    assert payments.admin(may, "payments_look").stdout.strip() == "t|f|f"


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
