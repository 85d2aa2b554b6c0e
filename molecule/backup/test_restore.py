"""What was backed up reads back; what is no backup touches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import units

if TYPE_CHECKING:
    from molecule.backup.conftest import Payments

HOME = "/var/backups/bedstone/payments"
MEDIA = "/srv/bedstone/payments/media"
UNITS = ["bedstone-backup.service"]


def test_backup_of_the_unit_restores_the_row_that_was_written(payments: Payments) -> None:
    payments.sql("INSERT INTO payment (title, amount) VALUES ('coffee', 3.20)")
    payments.host.check_output("systemctl start bedstone-backup.service")
    payments.sql("UPDATE payment SET title = 'tea' WHERE title = 'coffee'")
    payments.upload("the second invoice")

    result = payments.restored("latest")
    row = payments.sql("SELECT title, amount FROM payment WHERE id = 501").stdout
    assert row.strip() == "coffee|3.20"
    assert payments.uploaded() == "the first invoice"
    # What served before is kept, row and file.
    old = payments.admin("SELECT title FROM payment WHERE id = 501", result["old_database"]).stdout
    assert old.strip() == "tea"
    former = payments.host.check_output(f"cat {result['old_media']}/invoice.txt")
    assert former == "the second invoice"


def test_roles_work_after_a_restore_as_before(payments: Payments) -> None:
    payments.backup()
    payments.restored("latest")
    wrote = payments.sql("INSERT INTO payment (title, amount) VALUES ('x', 1) RETURNING id")
    assert wrote.stdout.strip() == "501"
    assert payments.sql("CREATE TABLE mine (id int)").rc != 0
    assert payments.sql("DROP TABLE payment").rc != 0
    # A right that a migration took away stays away.
    assert payments.sql("DELETE FROM audit.entry").rc != 0
    migrated = payments.sql(
        "ALTER TABLE payment ADD note text;"
        " CREATE TABLE note (id bigserial PRIMARY KEY, text text)",
        "payments_migrate",
    )
    assert migrated.rc == 0, migrated.stderr
    assert payments.sql("INSERT INTO note (text) VALUES ('a new table')").rc == 0
    owners = payments.admin(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'audit')",
        "payments",
    )
    assert owners.stdout.split() == ["payments_owner"]
    assert payments.sql("SELECT 1", "other_app").rc != 0, "another app's role must not get in"


def test_settings_of_the_roles_are_there_after_a_restore(payments: Payments) -> None:
    query = (
        "SELECT setrole::regrole, setconfig FROM pg_db_role_setting"
        " WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = 'payments') ORDER BY 1"
    )
    acl = "SELECT datacl, datdba::regrole FROM pg_database WHERE datname = 'payments'"
    before = payments.admin(f"{query}; {acl}").stdout
    assert "role=payments_owner" in before
    payments.backup()
    payments.restored("latest")
    assert payments.admin(f"{query}; {acl}").stdout == before


DAMAGES = {
    "no manifest": ("rm manifest.json", "isn't a backup of bedstone"),
    "garbage for a dump": ("echo garbage > database/toc.dat", "is truncated"),
    "truncated": ("truncate -s -1 database/*.dat.*", "is truncated"),
    "flipped bit": (
        "f=$(ls database/*.dat.* | head -1); printf '\\377' | dd of=$f bs=1 seek=12 conv=notrunc",
        "its checksum isn't the one",
    ),
    "missing file": ("rm $(ls database/*.dat.* | head -1)", "is missing"),
    "changed manifest": ("sed -i 's/: 500/: 499/' manifest.json", "checksum doesn't match"),
    "media cut short": ("truncate -s 20 media.tar.*", "is truncated"),
    "somebody's own directory": (
        "rm -r *; echo 'SELECT 1;' > dump.sql",
        "isn't a backup of bedstone",
    ),
}


REFUSALS = {
    "another app's": ("app='other'", "is a backup of other, not of payments"),
    "newer PostgreSQL": (
        "database=replace(found.database, server_major=99)",
        "comes from PostgreSQL 99",
    ),
    "unknown role": (
        "database=replace(found.database, roles=['analyst'])",
        "roles that this server doesn't have: analyst",
    ),
    "too large": (
        "database=replace(found.database, bytes=10**18)",
        "has to leave",
    ),
}


@pytest.fixture
def damaged(app: Payments, whole: str) -> str:
    """The path of a copy of a good backup, to be harmed."""
    app.host.check_output(f"rm -rf /root/damaged && cp -r {whole} /root/damaged")
    return "/root/damaged"


@pytest.mark.parametrize("damage", [*DAMAGES, *REFUSALS])
def test_what_is_no_backup_for_here_is_refused_and_nothing_is_touched(
    app: Payments, damaged: str, damage: str
) -> None:
    before = app.state()
    if damage in DAMAGES:
        harm, message = DAMAGES[damage]
        app.host.run(f"cd {damaged} && {harm}")
    else:
        changes, message = REFUSALS[damage]
        app.rewrite(damaged, changes)
    refused = app.bedstone(f"restore payments {damaged} --yes")
    assert refused.rc == 3, refused.stderr
    assert message in refused.stderr
    assert app.state() == before


def test_rows_that_are_missing_are_noticed_before_the_swap(app: Payments, damaged: str) -> None:
    before = app.state()
    app.rewrite(
        damaged,
        "database=replace(found.database, rows={**found.database.rows, 'public.payment': 501})",
    )
    failed = app.bedstone(f"restore payments {damaged} --yes")
    assert failed.rc == 1
    assert "public.payment: 501 in the backup, 500 restored" in failed.stderr
    assert app.state() == before


def test_dump_that_pg_restore_stumbles_over_leaves_what_serves_alone(
    app: Payments, damaged: str
) -> None:
    before = app.state()
    # As long as before and recorded as right, but no compressed data.
    app.host.check_output(
        f"cd {damaged}/database && for f in *.dat.*;"
        " do head -c $(stat -c %s $f) /dev/urandom > $f; done"
    )
    app.rewrite(damaged, "files={name: manifest.describe(path / name) for name in found.files}")
    failed = app.bedstone(f"restore payments {damaged} --yes")
    assert failed.rc == 1
    assert "nothing that serves was touched" in failed.stderr
    assert app.state() == before


def test_nobody_to_answer_is_a_refusal(payments: Payments) -> None:
    payments.backup()
    asked = payments.bedstone("restore payments latest < /dev/null")
    assert asked.rc == 3
    assert "Database payments is REPLACED" in asked.stderr


def test_person_who_types_another_name_stops_it(payments: Payments) -> None:
    payments.backup()
    oid = payments.oid()
    command = "/usr/local/bin/bedstone restore payments latest"
    typed = f"printf '%s\\n' {{}} | script -qec '{command}' /dev/null"
    assert payments.host.run(typed.format("yes")).rc == 3
    assert payments.oid() == oid
    assert payments.host.run(typed.format("payments")).rc == 0
    assert payments.oid() != oid


def test_killed_restore_leaves_the_old_data_serving(payments: Payments) -> None:
    payments.sql(
        "INSERT INTO payment (title, amount)"
        " SELECT md5(i::text), i FROM generate_series(1, 60000) i"
    )
    payments.backup()
    payments.sql("INSERT INTO payment (title, amount) VALUES ('later', 1)")
    oid = payments.oid()
    units.run_until(
        payments.host,
        "/usr/local/bin/bedstone restore payments latest --yes & pid=$!",
        "pgrep -f '[p]g_restore --format'",
        "kill -9 $pid; wait $pid; true",
    )
    assert payments.oid() == oid
    assert payments.rows() == 60501
    assert any(name.startswith("payments_restore_") for name in payments.databases())

    done = payments.bedstone("restore payments latest --yes")
    assert done.rc == 0, done.stderr
    assert "undoing the interrupted restore" in done.stderr
    assert payments.rows() == 60500
    assert not any(name.startswith("payments_restore_") for name in payments.databases())


def test_restore_ends_sessions_and_lets_clients_come_back(payments: Payments) -> None:
    payments.backup()
    payments.host.check_output(
        "systemd-run --quiet --collect --unit bedstone-test-client --uid postgres "
        "sh -c 'while :; do psql -Xqd payments -c \"SELECT pg_sleep(10)\"; done'"
    )
    try:
        old = payments.restored("latest")["old_database"]
    finally:
        payments.host.check_output("systemctl stop bedstone-test-client")
    assert old in payments.databases()
    assert payments.rows() == 500


def test_restore_into_an_empty_server(payments: Payments) -> None:
    payments.backup()
    payments.admin("DROP DATABASE payments WITH (FORCE)")
    payments.host.check_output(f"rm -r {MEDIA}")
    result = payments.restored("latest")
    assert result["old_database"] is None
    assert payments.rows() == 500
    assert payments.sql("INSERT INTO payment (title, amount) VALUES ('x', 1)").rc == 0
    assert payments.sql("ALTER TABLE payment ADD note text", "payments_migrate").rc == 0
    assert payments.sql("CREATE TABLE mine (id int)").rc != 0
    assert payments.uploaded() == "the first invoice"


def test_restore_beside_leaves_what_serves_alone(payments: Payments) -> None:
    path, oid = payments.backup(), payments.oid()
    payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    payments.restored(f"{path} --into payments_look")
    assert payments.oid() == oid
    assert payments.rows() == 0
    assert payments.admin("SELECT count(*) FROM payment", "payments_look").stdout.strip() == "500"


def test_other_apps_backup_belongs_to_the_app_afterwards(payments: Payments) -> None:
    path = payments.backup()
    done = payments.bedstone(f"restore other {path} --yes --from-other-app")
    assert done.rc == 0, done.stderr

    def other(sql: str, role: str = "other_app") -> int:
        return int(payments.sql(sql, role, "other").rc)

    assert other("INSERT INTO payment (title, amount) VALUES ('x', 1)") == 0
    assert other("DROP TABLE payment") != 0
    assert other("ALTER TABLE payment ADD note text", "other_migrate") == 0
    assert payments.sql("SELECT 1", "payments_app", "other").rc != 0
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'audit')"
    assert payments.admin(owners, "other").stdout.split() == ["other_owner"]


def test_copied_away_backup_restores_by_its_path(payments: Payments) -> None:
    path = payments.backup()
    payments.host.check_output(f"cp -r {path} /root/carried && rm -r {path}")
    payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    payments.restored("/root/carried")
    assert payments.rows() == 500
    payments.host.check_output("rm -r /root/carried")


# What an app's owner may write into a schema, and a restore runs. It may do what the owner may,
# wherever it runs: so whatever it has reached shows in the server's roles and files.
REACHING = """
CREATE FUNCTION reach(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  BEGIN COPY (SELECT 1) TO PROGRAM 'touch /tmp/reached'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'RESET ROLE; ALTER ROLE payments_owner SUPERUSER';
  EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres; CREATE ROLE reached';
  EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $$;
ALTER TABLE payment ADD CONSTRAINT reaching CHECK (reach(id));
CREATE DOMAIN reaching AS bigint CHECK (reach(VALUE));
CREATE FUNCTION added(reaching, int) RETURNS reaching LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE total (int) (sfunc = added, stype = reaching, initcond = '1');
"""


def test_what_a_dump_runs_has_no_more_rights_than_its_owner(payments: Payments) -> None:
    host = payments.host
    seen = (
        "SELECT string_agg(rolname || rolsuper, ' ' ORDER BY 1) FROM pg_roles"
        " WHERE rolname <> 'bedstone_restore'"
    )
    written = payments.sql(REACHING, "payments_migrate")
    assert written.rc == 0, written.stderr
    try:
        path = payments.backup()
        before = payments.admin(seen).stdout
        payments.restored("latest")
        payments.restored(f"{path} --into payments_look")
        foreign = payments.bedstone(f"restore other {path} --yes --from-other-app")
        assert foreign.rc == 0, foreign.stderr
        assert payments.admin(seen).stdout == before
        # PostgreSQL has a /tmp of its own.
        assert host.run("find /tmp /var/tmp -name reached | grep .").rc != 0
        assert payments.rows() == 500
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'audit')"
        assert payments.admin(owners, "payments").stdout.split() == ["payments_owner"]
    finally:
        for database in ("payments", "other"):
            payments.admin(
                "DROP FUNCTION IF EXISTS reach CASCADE; DROP DOMAIN IF EXISTS reaching CASCADE",
                database,
            )
