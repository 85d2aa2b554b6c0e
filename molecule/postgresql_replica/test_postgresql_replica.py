"""A copy follows its primary, is seeded again, takes its place, and gives it back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import units
from replica_pair import (
    CLUSTER,
    PEERS,
    SERVERS,
    Database,
    lose,
    provision,
    read_from_the_primary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = [CLUSTER]
COUNT = "SELECT count(*) FROM note"
NOTE = "INSERT INTO note (text) VALUES ('written') RETURNING id"
# More than postgresql_slot_keep_mb, in whole segments.
MUCH = "INSERT INTO note (text) SELECT 'segment ' || i FROM generate_series(1, 10) i;"
SEGMENTS = 5


@pytest.fixture(autouse=True)
def note(one: Database) -> None:
    """Have a table of the app's, on whichever server is the primary."""
    if one.sql("SELECT pg_is_in_recovery()") == "f":
        one.sql("SET ROLE shop_owner; CREATE TABLE IF NOT EXISTS note (id serial, text text)")


@pytest.fixture
def stopped(two: Database) -> Iterator[Database]:
    """The copy, which doesn't run during a test."""
    two.host.check_output(f"systemctl stop {CLUSTER}")
    yield two
    two.host.check_output(f"systemctl start {CLUSTER}")
    units.wait(two.follows, "the copy follows")


def test_row_appears_on_the_copy_and_is_read_there_by_the_app(one: Database, two: Database) -> None:
    done = one.as_app(NOTE)
    assert done.rc == 0, done.stderr
    two.wait_for(COUNT, one.sql(COUNT))
    read = one.as_app(COUNT, name="postgres-replica", at=two)
    assert read.stdout.strip() == one.sql(COUNT), read.stderr


def test_write_on_the_copy_is_refused(one: Database, two: Database) -> None:
    done = one.as_app(NOTE, name="postgres-replica", at=two)
    assert "read-only transaction" in done.stderr


def test_both_say_how_they_are(one: Database, two: Database) -> None:
    (found,) = one.status()["replicas"]
    assert found["name"] == two.host.check_output("hostname")
    assert found["slot"]["state"] == "streaming"
    assert two.status()["primary"] == one.host.check_output("hostname")
    assert two.status()["standby"]["receiver"] == "streaming"
    assert "streaming, " in one.bedstone("status").stdout
    assert re.search(r"a copy of \S+, \S+ \S+ behind", two.bedstone("status").stdout)
    assert one.alarms() == two.alarms() == {}


def test_replication_is_encrypted_and_proved_by_a_certificate(one: Database, two: Database) -> None:
    assert two.replicate(one).rc == 0
    assert "no encryption" in two.replicate(one, sslmode="disable").stderr
    without = two.replicate(one, sslcert="/nonexistent", sslkey="/nonexistent")
    assert "client certificate" in without.stderr
    assert "rejects connection" in two.replicate(one, replication="no", dbname="shop").stderr
    sessions = "pg_stat_replication JOIN pg_stat_ssl USING (pid)"
    used = one.sql(f"SELECT ssl::text || version FROM {sessions}")
    assert used == "trueTLSv1.3"


def test_certificate_of_the_copy_serves_no_other_address(one: Database, two: Database) -> None:
    # The primary has such a certificate as well: after a promotion it is the copy.
    here = one.replicate(one, hostaddr="127.0.0.1")
    assert "no pg_hba.conf entry for replication" in here.stderr
    # The copy under another address of the same network: the firewall drops it.
    ip = two.address.rpartition(".")[0] + ".251"
    device = two.host.check_output("ip -o -4 route show default").split()[4]
    two.host.check_output(f"ip address add {ip}/24 dev {device}")
    try:
        two.host.check_output(f"ip route add {one.address}/32 dev {device} src {ip}")
        assert "timeout" in two.replicate(one).stderr
    finally:
        two.host.check_output(f"ip address del {ip}/24 dev {device}")
        two.host.run(f"ip route del {one.address}/32 dev {device}")
    units.wait(two.follows, "the copy follows")


def test_key_of_the_copy_is_private_and_no_secret_is_shown(two: Database) -> None:
    key = two.host.file("/etc/bedstone/tls/replication.key")
    assert (key.user, key.group, key.mode) == ("root", "ssl-cert", 0o640)
    conninfo = two.sql("SHOW primary_conninfo")
    assert "sslmode=verify-full" in conninfo
    assert "password" not in conninfo
    assert two.host.run("grep -r conninfo /var/lib/postgresql/17/main/*.conf").stdout == ""


def test_backups_are_made_on_the_primary_alone(one: Database, two: Database) -> None:
    for timer in ("bedstone-backup.timer", "bedstone-wal-full.timer"):
        assert one.host.service(timer).is_running
        assert not two.host.service(timer).is_running
    assert two.sql("SELECT archived_count FROM pg_stat_archiver") == "0"


def test_copy_catches_up_after_a_stop_and_a_restart_of_the_primary(
    one: Database, stopped: Database
) -> None:
    assert one.as_app(NOTE).rc == 0
    one.host.check_output(f"systemctl restart {CLUSTER}")
    assert one.as_app(NOTE).rc == 0
    ((name, alarm),) = one.alarms().items()
    assert name == f"replication/{stopped.host.check_output('hostname')}"
    assert "not connected" in alarm["words"]
    stopped.host.check_output(f"systemctl start {CLUSTER}")
    stopped.wait_for(COUNT, one.sql(COUNT))
    units.wait(lambda: one.alarms() == {}, "the alarm is over")


def test_copy_that_was_away_too_long_is_seeded_again(one: Database, stopped: Database) -> None:
    for _ in range(SEGMENTS):
        one.sql(MUCH)
        one.sql("SELECT pg_switch_wal()")
    one.sql("CHECKPOINT")
    (alarm,) = one.alarms().values()
    assert (alarm["severity"], "is gone" in alarm["words"]) == ("red", True), alarm
    assert "sudo bedstone replica seed" in alarm["command"]
    stopped.host.check_output(f"systemctl start {CLUSTER}")
    assert not stopped.follows()
    (alarm,) = stopped.alarms().values()
    assert "sudo bedstone replica seed" in alarm["command"]
    done = stopped.bedstone("replica", "seed")
    assert done.rc == 0, done.stderr
    stopped.wait_for(COUNT, one.sql(COUNT))
    assert one.alarms() == stopped.alarms() == {}
    assert stopped.host.check_output("ls /var/lib/postgresql/17") == "main"


def test_promotion_is_refused_while_the_primary_answers(two: Database) -> None:
    done = two.bedstone("promote")
    assert done.rc == 3
    assert "still answers" in done.stderr
    assert two.follows()


def test_host_with_data_of_its_own_is_left_alone(one: Database) -> None:
    assert one.bedstone("replica", "follow").rc == 3
    assert one.bedstone("replica", "seed", "--discard").rc == 3


def test_planned_change_of_the_primary_keeps_rows_and_needs_no_new_copy(
    one: Database, two: Database
) -> None:
    before = one.sql(COUNT)
    done = one.bedstone("demote")
    assert done.rc == 0, done.stderr
    done = two.bedstone("promote")
    assert done.rc == 0, done.stderr
    assert two.sql(COUNT) == before
    # Before the inventory says so, the app can write there, and nothing of the archive is lost.
    assert one.as_app(NOTE, at=two).rc == 0
    waits = "SELECT count(*) > 0 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.history%'"
    assert two.sql(waits) == "t"
    provision(PEERS, SERVERS)
    assert two.sql("SELECT pg_is_in_recovery()") == "f"
    one.wait_for(COUNT, two.sql(COUNT))
    assert one.host.check_output("ls /var/lib/postgresql/17") == "main"
    assert two.alarms() == one.alarms() == {}
    assert one.as_app(NOTE, at=two).rc == 0
    for timer in ("bedstone-backup.timer", "bedstone-wal-full.timer"):
        assert two.host.service(timer).is_running
        assert not one.host.service(timer).is_running


# The last test: one of the servers is gone after it.
def test_copy_replaces_a_primary_that_is_lost_with_its_disk(one: Database, two: Database) -> None:
    assert two.sql("SELECT pg_is_in_recovery()") == "f", "the test before exchanged the two"
    acknowledged = [written(one, two) for _ in range(20)]
    one.wait_for(COUNT, two.sql(COUNT))
    lose(two)
    done = one.bedstone("promote")
    assert done.rc == 0, done.stderr
    assert "The newest transaction from" in done.stdout
    read_from_the_primary()
    provision(SERVERS, None)
    kept = one.sql("SELECT id FROM note").split()
    assert set(acknowledged) <= set(kept)
    assert one.as_app(NOTE).rc == 0
    assert one.alarms() == {}
    assert one.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    for timer in ("bedstone-backup.timer", "bedstone-wal-full.timer"):
        assert one.host.service(timer).is_running


def written(app: Database, primary: Database) -> str:
    """Write a row as the app does, and return its id, which PostgreSQL acknowledged."""
    done = app.as_app(NOTE, at=primary)
    assert done.rc == 0, done.stderr
    return str(done.stdout.strip())
