"""Each week the newest backup is restored where it can do no harm; a failure is reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

    from molecule.backup.conftest import Payments

UNITS = ["bedstone-verify.service", "bedstone-verify.timer"]
PLACE = "/var/cache/bedstone-verify"
TOLD = "/run/bedstone-test-told.json"

# What a verification must leave alone: it never so much as connects.
PRODUCTION = """
SELECT pg_postmaster_start_time(), (SELECT string_agg(rolname, ' ' ORDER BY 1) FROM pg_roles);
SELECT d.datname, d.oid, s.sessions, s.temp_bytes
  FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid
 WHERE d.datname <> 'postgres' ORDER BY 1;
"""


# A session is counted when its process has ended, which is after the program that had it.
NOBODY = """
SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();
"""


def production(payments: Payments) -> str:
    units.wait(lambda: payments.admin(NOBODY).stdout == "", "nobody is connected")
    done = payments.admin(PRODUCTION)
    assert done.rc == 0, done.stderr
    return str(done.stdout)


def start(payments: Payments) -> Any:
    return payments.host.run("systemctl start bedstone-verify.service")


def left(payments: Payments) -> list[str]:
    return str(payments.host.check_output(f"ls -A {PLACE}")).split()


def running(payments: Payments) -> bool:
    """Return whether any process of a temporary cluster still runs."""
    return payments.host.run("pgrep -f '[v]erify-[0-9a-f]{12}'").rc == 0


def listed(payments: Payments, path: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = json.loads(payments.bedstone("backups --json").stdout)
    return next(entry for entry in entries if entry["path"] == path)


def much(payments: Payments) -> None:
    """Give the app so much data that a restore takes a moment."""
    done = payments.sql(
        "INSERT INTO payment (title, amount)"
        " SELECT md5(i::text), i FROM generate_series(1, 60000) i"
    )
    assert done.rc == 0, done.stderr


@pytest.fixture(scope="module", autouse=True)
def here(host: Host) -> Iterator[None]:
    """Let the unit verify what is on the server alone: the tests before leave damage elsewhere."""
    directory = "/run/systemd/system/bedstone-verify.service.d"
    only = (
        "[Service]\\nExecStart=\\nExecStart=/usr/local/bin/bedstone verify --destination local\\n"
    )
    host.check_output(
        f"mkdir -p {directory} && printf '{only}' > {directory}/local.conf"
        " && systemctl daemon-reload"
    )
    yield
    host.check_output(f"rm -r {directory} && systemctl daemon-reload")


@pytest.fixture
def backed_up(payments: Payments) -> str:
    """The path of the newest backup of `payments`; the other app has one, too."""
    assert payments.bedstone("backup other").rc == 0
    return payments.backup()


def test_backup_is_verified_and_production_does_not_notice(
    payments: Payments, backed_up: str
) -> None:
    before = production(payments)
    journal = units.Journal(payments.host, "bedstone-verify.service")
    done = start(payments)
    assert done.rc == 0, journal.text()
    assert production(payments) == before
    journal.says(
        "the 1000 rows of 2 tables are as they were counted",
        "each of `backup_checks` (1) is true",
        "sound (amcheck)",
        "files (1, 18 B) are as they were recorded",
    )
    assert listed(payments, backed_up)["verification"] == "succeeded"
    assert left(payments) == []
    assert not running(payments)


def test_throwaway_cluster_has_a_user_of_its_own(host: Host) -> None:
    account = host.user("bedstone-verify")
    assert account.exists
    assert account.shell.endswith("/nologin")
    assert account.groups == ["bedstone-verify"]


def test_nobody_else_looks_into_what_is_unpacked(host: Host) -> None:
    home = host.file(PLACE)
    assert (home.user, home.mode) == ("root", 0o711)
    assert host.run(f"runuser -u nobody -- ls {PLACE}").rc != 0


def test_damaged_backup_fails_the_unit_and_the_hook_is_told(
    payments: Payments, backed_up: str, wait_until: Callable[..., None]
) -> None:
    host = payments.host
    units.settle(host)
    host.run(f"rm -f {TOLD}")
    payments.rewrite(
        backed_up,
        "database=replace(found.database, rows={**found.database.rows, 'public.payment': 501})",
    )
    before = production(payments)
    assert start(payments).rc != 0
    assert host.check_output("systemctl show -P Result bedstone-verify") == "exit-code"
    assert production(payments) == before
    assert left(payments) == []
    wait_until(
        lambda: host.file(TOLD).exists and host.file(TOLD).content_string.endswith("}"),
        seconds=60,
    )
    told = json.loads(host.file(TOLD).content_string)
    assert told["event"] == "failure"
    assert "bedstone-verify.service" in told["title"]
    assert "public.payment: 501 in the backup, 500 restored" in told["details"]
    assert listed(payments, backed_up)["verification"] == "failed"
    shown = payments.bedstone("backups payments").stdout
    assert "THE VERIFICATION of" in shown

    # A newer one that is whole makes it good.
    payments.backup()
    assert start(payments).rc == 0


DAMAGES = {
    "truncated": ("truncate -s -1 database/*.dat.*", None, "is truncated"),
    "flipped bit": (
        "f=$(ls database/*.dat.* | head -1); printf '\\377' | dd of=$f bs=1 seek=12 conv=notrunc",
        None,
        "its checksum isn't the one",
    ),
    "changed manifest": ("sed -i 's/: 500/: 499/' manifest.json", None, "checksum doesn't match"),
    "no compressed data, but recorded as right": (
        "cd database && for f in *.dat.*; do head -c $(stat -c %s $f) /dev/urandom > $f; done",
        "files={name: manifest.describe(path / name) for name in found.files}",
        "pg_restore into",
    ),
    "media that are no archive, but recorded as right": (
        "head -c $(stat -c %s media.tar.zst) /dev/urandom > media.tar.zst",
        "files={name: manifest.describe(path / name) for name in found.files}",
        "could not be unpacked",
    ),
    "a file too few in the media": (
        "true",
        "media=replace(found.media, files=2)",
        "but the backup recorded 2 files",
    ),
    "newer PostgreSQL": (
        "true",
        "database=replace(found.database, server_major=99)",
        "which is too new for this server",
    ),
    "an extension that isn't here": (
        "true",
        "database=replace(found.database, extensions={'timescaledb': '2.0'})",
        "extensions that this server doesn't have: timescaledb",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_in_words(app: Payments, whole: str, damage: str) -> None:
    harm, changes, message = DAMAGES[damage]
    app.host.check_output(f"rm -rf /root/damaged && cp -r {whole} /root/damaged")
    app.host.run(f"cd /root/damaged && {harm}")
    if changes:
        app.rewrite("/root/damaged", changes)
    before = production(app)
    failed = app.bedstone("verify payments --backup /root/damaged")
    assert failed.rc == 1, failed.stdout
    assert message in failed.stderr
    assert production(app) == before
    assert left(app) == []
    assert not running(app)


def test_role_that_this_server_does_not_have_is_made_there_alone(app: Payments, whole: str) -> None:
    app.host.check_output(f"rm -rf /root/damaged && cp -r {whole} /root/damaged")
    app.rewrite(
        "/root/damaged",
        "database=replace(found.database, roles=[*found.database.roles, 'analyst'])",
    )
    done = app.bedstone("verify payments --backup /root/damaged")
    assert done.rc == 0, done.stderr
    assert "analyst" not in app.admin("SELECT rolname FROM pg_roles").stdout


# What an app's owner may write into a schema, and a restore runs as the superuser.
REACHING = """
CREATE OR REPLACE FUNCTION reach(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF id = 1 AND current_setting('is_superuser') = 'on' THEN
    COPY (SELECT 1) TO PROGRAM
      'env -i psql -h /var/run/postgresql -U postgres -d postgres -c "CREATE ROLE reached"';
  END IF;
  RETURN true;
EXCEPTION WHEN OTHERS THEN RETURN true;
END $$;
ALTER TABLE payment ADD CONSTRAINT reaching CHECK (reach(id));
"""


def test_what_a_dump_runs_does_not_reach_production(payments: Payments) -> None:
    assert payments.bedstone("backup other").rc == 0
    written = payments.sql(REACHING, "payments_migrate")
    assert written.rc == 0, written.stderr
    try:
        payments.backup()
        before = production(payments)
        assert start(payments).rc == 0
        assert payments.bedstone("verify payments --destination local").rc == 0
        assert production(payments) == before
    finally:
        payments.admin("DROP ROLE IF EXISTS reached")
        payments.admin("DROP FUNCTION reach CASCADE", "payments")


def test_check_that_is_not_true_is_a_failure(payments: Payments) -> None:
    payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    payments.backup()
    failed = payments.bedstone("verify payments --destination local")
    assert failed.rc == 1
    assert "isn't true for what was restored: it says false" in failed.stderr


@pytest.mark.usefixtures("backed_up")
def test_too_little_room_is_refused_before_it_begins(payments: Payments) -> None:
    host = payments.host
    host.check_output("cp -p /etc/bedstone/backup.json /root/backup.json")
    host.check_output("sed -i '/reserve_mb/s/64/900000000/' /etc/bedstone/backup.json")
    try:
        refused = payments.bedstone("verify payments --destination local")
        assert refused.rc == 3
        assert "has to leave" in refused.stderr
        assert left(payments) == []
    finally:
        host.check_output("mv /root/backup.json /etc/bedstone/backup.json")


def test_second_one_at_once_is_told_who_is_at_it(payments: Payments) -> None:
    much(payments)
    payments.backup()
    # The first one is held where it is until the second has had its answer.
    units.run_until(
        payments.host,
        "/usr/local/bin/bedstone verify payments --destination local > /dev/null & pid=$!",
        "pkill -STOP -f '[p]g_restore --format'",
        "/usr/local/bin/bedstone verify payments --destination local 2> /root/second; code=$?;"
        " pkill -CONT -f '[p]g_restore --format'; wait $pid && [ $code = 3 ]",
    )
    said = payments.host.check_output("cat /root/second")
    assert "Another verification is running: `bedstone verify payments`" in said
    assert left(payments) == []


@pytest.mark.parametrize("frozen", [False, True])
def test_killed_verification_leaves_nothing_that_the_next_does_not_clear(
    payments: Payments, wait_until: Callable[..., None], *, frozen: bool
) -> None:
    much(payments)
    payments.backup()
    before = production(payments)
    # A cluster whose postmaster is frozen doesn't end with the program that started it.
    stop = "pkill -STOP -f '[p]ostgres -D /var/cache/bedstone-verify'; " if frozen else ""
    units.run_until(
        payments.host,
        "/usr/local/bin/bedstone verify payments --destination local & pid=$!",
        "pgrep -f '[p]g_restore --format'",
        f"{stop}kill -9 $pid; wait $pid; true",
    )
    assert len(left(payments)) == 2
    if frozen:
        assert running(payments)
    else:
        wait_until(
            lambda: not running(payments), seconds=60, what="the cluster ends with the program"
        )
    assert production(payments) == before

    done = payments.bedstone("verify payments --destination local")
    assert done.rc == 0, done.stderr
    assert "removed what an interrupted verification of payments left" in done.stderr
    assert left(payments) == []
    assert not running(payments)
    assert production(payments) == before


def test_killed_unit_cleans_up_at_once(payments: Payments, wait_until: Callable[..., None]) -> None:
    much(payments)
    payments.backup()
    units.run_until(
        payments.host,
        "systemctl start --no-block bedstone-verify.service",
        "pgrep -f '[p]g_restore --format'",
        "systemctl kill -s KILL bedstone-verify.service",
    )
    wait_until(
        lambda: payments.host.run("systemctl is-failed bedstone-verify.service").rc == 0,
        seconds=60,
        what="the unit has failed",
    )
    assert left(payments) == []
    assert not running(payments)
    payments.host.check_output("systemctl reset-failed bedstone-verify.service")


def test_ended_unit_cleans_up(payments: Payments) -> None:
    much(payments)
    payments.backup()
    units.run_until(
        payments.host,
        "systemctl start --no-block bedstone-verify.service",
        "pgrep -f '[p]g_restore --format'",
        "systemctl stop bedstone-verify.service",
    )
    assert left(payments) == []
    assert not running(payments)


def test_missed_sunday_is_caught_up(
    payments: Payments, backed_up: str, wait_until: Callable[..., None]
) -> None:
    payments.host.check_output("systemctl stop bedstone-verify.timer")
    payments.host.check_output(
        "touch -d '10 days ago' /var/lib/systemd/timers/stamp-bedstone-verify.timer"
    )
    payments.host.check_output("systemctl start bedstone-verify.timer")
    wait_until(
        lambda: listed(payments, backed_up)["verification"] == "succeeded",
        seconds=units.LIMIT_SECONDS,
        what="the timer makes up for the missed Sunday",
    )
    payments.host.check_output("systemctl stop bedstone-verify.timer")
    # The other app's turn comes after.
    units.settle(payments.host)


def test_what_lies_elsewhere_is_fetched_and_verified(payments: Payments) -> None:
    name = payments.backup().rpartition("/")[2]
    sent = payments.bedstone("copy payments")
    assert sent.rc == 0, sent.stderr
    before = production(payments)
    # Without what lies here: it really comes from there.
    payments.host.check_output("rm -r /var/backups/bedstone/payments")
    done = payments.bedstone("verify payments --destination offsite --destination bucket")
    assert done.rc == 0, done.stderr
    for destination in ("offsite", "bucket"):
        for kind in ("dump", "media"):
            assert f"the {kind} of {name} at {destination} is verified" in done.stdout
    assert production(payments) == before
    assert left(payments) == []
