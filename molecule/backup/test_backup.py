"""A backup is made every night, is finished or not there, and its failure is loud."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from molecule.backup.conftest import Payments

HOME = "/var/backups/bedstone/payments"
UNITS = ["bedstone-backup.service", "bedstone-backup.timer"]

# A pg_dump that writes a part, and then fails as on a broken page.
BROKEN = """\
#!/bin/sh
for argument; do
  case $argument in
    --version) echo 'pg_dump (PostgreSQL) broken'; exit 0 ;;
    --file=*) echo part > "${argument#--file=}/toc.dat" ;;
  esac
done
echo 'pg_dump: error: invalid page in block 7' >&2
exit 1
"""


def start(payments: Payments) -> Any:
    return payments.host.run("systemctl start bedstone-backup.service")


@contextmanager
def backup_behind_a_lock(payments: Payments, wait_until: Callable[..., None]) -> Iterator[None]:
    """Begin a backup whose pg_dump waits for a lock, which is held during the block."""
    payments.host.check_output(
        "systemd-run --quiet --collect --unit bedstone-test-lock --uid postgres "
        "psql -Xq -d payments -c 'BEGIN; LOCK TABLE payment; SELECT pg_sleep(600)'"
    )
    held = (
        "SELECT 1 FROM pg_locks WHERE relation = 'payment'::regclass"
        " AND mode = 'AccessExclusiveLock' AND granted"
    )
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'"
    )
    try:
        wait_until(lambda: payments.admin(held, "payments").stdout, seconds=60, what="it's locked")
        payments.host.check_output(
            "systemd-run --quiet --collect --unit bedstone-test-backup /usr/local/bin/bedstone"
            " backup payments"
        )
        wait_until(lambda: payments.admin(waits).stdout, seconds=60, what="pg_dump waits for it")
        yield
    finally:
        payments.host.run("systemctl stop bedstone-test-lock")
        payments.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
        )


def test_backup_of_the_timers_unit_is_complete(payments: Payments) -> None:
    assert start(payments).rc == 0
    (entry,) = [
        e for e in json.loads(payments.bedstone("backups --json --check").stdout)
        if e["app"] == "payments"
    ]  # fmt: skip
    assert entry["state"] == "intact"
    assert entry["label"] == "nightly"
    manifest = json.loads(payments.host.check_output(f"cat {HOME}/{entry['name']}/manifest.json"))
    assert manifest["database"]["rows"] == {"public.payment": 500, "audit.entry": 500}
    assert manifest["media"]["files"] == 1


def test_dump_is_parallel_and_small(payments: Payments) -> None:
    path = payments.backup()
    assert len(payments.host.check_output(f"ls {path}/database/*.dat.zst").split()) == 2
    elsewhere = payments.backup("--directory /root/elsewhere")
    assert payments.host.file(f"{elsewhere}/media.tar.zst").exists
    payments.host.check_output("rm -r /root/elsewhere")


def test_nobody_but_root_reads_a_backup(payments: Payments) -> None:
    path = payments.backup()
    for user in ("nobody", "postgres"):
        assert payments.host.run(f"runuser -u {user} -- ls {HOME}").rc != 0
        assert payments.host.run(f"runuser -u {user} -- cat {path}/manifest.json").rc != 0
    assert payments.host.check_output(f"find {path} ! -user root") == ""
    assert payments.host.check_output(f"find {path} -perm /077") == ""


def test_missed_night_is_caught_up(payments: Payments, wait_until: Callable[..., None]) -> None:
    payments.host.check_output("systemctl stop bedstone-backup.timer")
    payments.host.check_output(
        "touch -d '2 days ago' /var/lib/systemd/timers/stamp-bedstone-backup.timer"
    )
    assert payments.names() == []
    payments.host.check_output("systemctl start bedstone-backup.timer")
    wait_until(
        lambda: any(name.startswith("backup_") for name in payments.names()),
        seconds=units.LIMIT_SECONDS,
        what="the timer makes up for the missed night",
    )
    payments.host.check_output("systemctl stop bedstone-backup.timer")
    units.settle(payments.host)


def test_second_backup_at_once_is_told_who_is_at_it(
    payments: Payments, wait_until: Callable[..., None]
) -> None:
    with backup_behind_a_lock(payments, wait_until):
        second = payments.bedstone("backup payments")
        assert second.rc == 3
        assert "bedstone backup payments" in second.stderr
        assert "since 20" in second.stderr
    wait_until(
        lambda: payments.host.run("systemctl is-active bedstone-test-backup").rc != 0,
        seconds=units.LIMIT_SECONDS,
    )
    assert len(payments.names()) == 1


def test_killed_backup_leaves_nothing_that_counts_and_the_next_one_cleans_up(
    payments: Payments, wait_until: Callable[..., None]
) -> None:
    with backup_behind_a_lock(payments, wait_until):
        payments.host.check_output(
            "kill -9 $(systemctl show -P MainPID bedstone-test-backup.service)"
        )
        wait_until(
            lambda: payments.host.run("pgrep -x pg_dump").rc != 0,
            seconds=60,
            what="pg_dump ends as well",
        )
    (left,) = payments.names()
    assert left.startswith(".incomplete-backup_")
    assert payments.bedstone("restore payments latest --yes").rc == 3
    path = payments.backup()
    assert payments.names() == [path.rsplit("/", 1)[-1]]


def test_failing_dump_leaves_no_name_and_a_failed_unit_that_tells(
    payments: Payments, wait_until: Callable[..., None]
) -> None:
    host = payments.host
    host.run("rm -f /run/bedstone-test-notified")
    journal = units.Journal(host, "bedstone-backup.service")
    program = host.check_output("ls /usr/lib/postgresql/*/bin/pg_dump")
    host.check_output(f"mv {program} {program}.away")
    try:
        host.check_output(f"printf %s {shlex.quote(BROKEN)} > {program} && chmod 755 {program}")
        assert start(payments).rc != 0
        assert host.check_output("systemctl show -P Result bedstone-backup") == "exit-code"
        assert payments.names() == []
        journal.says("pg_dump of the database payments failed", "invalid page")
        wait_until(lambda: host.file("/run/bedstone-test-notified").exists, seconds=60)
        assert "THE LAST BACKUP FAILED" in payments.bedstone("backups").stdout
    finally:
        host.check_output(f"mv {program}.away {program}")
    assert start(payments).rc == 0
    assert "FAILED" not in payments.bedstone("backups").stdout


def test_unreachable_server_is_a_failure(payments: Payments) -> None:
    payments.admin("ALTER DATABASE payments ALLOW_CONNECTIONS false")
    try:
        failed = payments.bedstone("backup payments")
        assert failed.rc == 1
        assert "not currently accepting connections" in failed.stderr
        assert payments.names() == []
    finally:
        payments.admin("ALTER DATABASE payments ALLOW_CONNECTIONS true")


def test_backup_that_would_take_the_reserve_is_refused(payments: Payments) -> None:
    host = payments.host
    host.check_output("cp -p /etc/bedstone/backup.json /root/backup.json")
    host.check_output("sed -i '/reserve_mb/s/64/900000000/' /etc/bedstone/backup.json")
    try:
        refused = payments.bedstone("backup payments")
        assert refused.rc == 3
        assert "has to leave" in refused.stderr
        assert payments.names() == []
    finally:
        host.check_output("mv /root/backup.json /etc/bedstone/backup.json")


def test_retention_removes_what_is_old_and_ours(payments: Payments) -> None:
    host = payments.host
    for days, path in enumerate([payments.backup() for _ in range(5)]):
        payments.rewrite(path, f"started=found.started - timedelta(days={40 - days})")
    oldest = sorted(payments.names())[:3]
    host.check_output(f"mkdir {HOME}/backup_20200101_000000")
    host.check_output(f"echo '{{}}' > {HOME}/backup_20200101_000000/manifest.json")
    host.check_output("cp -p /etc/bedstone/backup.json /root/backup.json")
    host.check_output(
        "sed -i '/keep_days/s/30/1/; /keep_weeks/s/8/0/; /keep_months/s/6/0/'"
        " /etc/bedstone/backup.json"
    )
    try:
        # It could be a slip: what was kept stays until it is accepted.
        held = json.loads(payments.bedstone("backup payments --json").stdout)["backups"][0]
        assert held["removed"] == []
        assert "keep_days from 30 to 1" in host.run("bedstone status").stdout
        shown = payments.bedstone("retention").stdout
        assert "keep_days: 30 in force, 1 in the settings" in shown
        assert f"payments at local: 3 backups, {oldest[0]} to {oldest[2]}" in shown
        payments.bedstone("retention --accept")
        made = json.loads(payments.bedstone("backup payments --json").stdout)["backups"][0]
    finally:
        host.check_output("mv /root/backup.json /etc/bedstone/backup.json")
    oldest = sorted({*oldest, *made["removed"]})
    # Three at least are kept: the two new ones and the newest of the old.
    assert made["removed"] == oldest[::-1]
    assert "backup_20200101_000000" in payments.names()
    assert len(payments.names()) == 4


def test_directory_of_the_caller_is_used(payments: Payments) -> None:
    path = payments.backup("--directory /root/pre-deployment --label before-deploy")
    assert path.startswith("/root/pre-deployment/payments/backup_")
    payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    payments.restored(path)
    assert payments.rows() == 500
    payments.host.check_output("rm -r /root/pre-deployment")


def test_writers_are_not_stopped_and_rows_are_those_of_one_moment(
    payments: Payments, wait_until: Callable[..., None]
) -> None:
    payments.host.check_output(
        "systemd-run --quiet --collect --unit bedstone-test-writer --uid postgres sh -c "
        "'while :; do psql -Xqd payments -c \"WITH p AS (INSERT INTO payment (title, amount)"
        " VALUES (1, 1) RETURNING id) INSERT INTO audit.entry (payment) SELECT id FROM p\"; done'"
    )
    try:
        wait_until(lambda: payments.rows() > 500, seconds=60, what="somebody writes")
        before = payments.rows()
        path = payments.backup()
        after = payments.rows()
    finally:
        payments.host.check_output("systemctl stop bedstone-test-writer")
    assert before < after
    rows = json.loads(payments.host.check_output(f"cat {path}/manifest.json"))["database"]["rows"]
    assert rows["public.payment"] == rows["audit.entry"]
    assert before <= rows["public.payment"] <= after
    payments.restored("latest --no-media")
    assert payments.rows() == rows["public.payment"]


def test_backup_holds_no_password(payments: Payments) -> None:
    path = payments.backup()
    for secret in ("migrate-password-of-a-test", "app-password-of-a-test"):
        assert payments.host.run(f"grep -r {secret} {path}").rc == 1
