"""PostgreSQL 15 becomes 17: refused, rehearsed, killed, done, taken back, done again.

The tests depend on their order: each begins with what the one before has left.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from again import applied, refused
from units import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

    from molecule.upgrade.conftest import Server

UNITS = [
    "bedstone-upgrade.service",
    "bedstone-wal-full.service",
    "postgresql@15-main.service",
    "postgresql@17-main.service",
]
PAGE = "/etc/nginx/bedstone/maintenance/payments.html"
JOURNAL = "/var/lib/bedstone/upgrade/journal.json"
SORTED = """
CREATE COLLATION german (provider = icu, locale = 'de');
CREATE INDEX by_name ON payment (title COLLATE german);
UPDATE pg_collation SET collversion = '1' WHERE collname = 'german';
"""
MESSAGE = "would make a new, empty cluster beside the data"


def test_a_version_that_is_not_installed_is_refused(db: Server) -> None:
    said = db.refused("--to", "18")
    assert "PostgreSQL 18 isn't installed" in said
    assert "apt-get install postgresql-18" in said


def test_an_older_version_is_refused(db: Server) -> None:
    assert "never goes to an older version" in db.refused("--to", "14")


def test_all_that_stands_in_the_way_is_told_at_once(db: Server, host: Host) -> None:
    settings, control = "/etc/bedstone/backup.json", "/usr/share/postgresql/17/extension/pg_trgm"
    archiver = "/usr/bin/pgbackrest"
    older = f'#!/bin/sh\\n[ "$1" = version ] || exec {archiver}.real "$@"\\necho pgBackRest 2.45\\n'
    locked = "/run/bedstone/locks/payments.backup.lock"
    host.check_output(
        f"cp -a {settings} {settings}.before;"
        f""" sed -i 's/"reserve_mb": [0-9]*/"reserve_mb": 900000000/' {settings};"""
        f" mv {control}.control {control}.away;"
        f" mv {archiver} {archiver}.real; printf '{older}' > {archiver}; chmod 755 {archiver};"
        f" mkdir -p -m 700 /run/bedstone/locks;"
        f" systemd-run --quiet --unit test-backup flock {locked} sleep infinity;"
        f" while flock --nonblock {locked} true; do :; done"
    )
    db.admin("SELECT pg_create_physical_replication_slot('standby')")
    db.admin("CREATE DATABASE shut ALLOW_CONNECTIONS false")
    db.admin(SORTED, "payments")
    try:
        said = db.refused("--to", "17")
    finally:
        db.admin("DROP COLLATION german CASCADE", "payments")
        db.admin("DROP DATABASE shut")
        db.admin("SELECT pg_drop_replication_slot('standby')")
        host.check_output(
            f"mv {settings}.before {settings}; mv {control}.away {control}.control;"
            f" mv {archiver}.real {archiver};"
            " systemctl stop test-backup"
        )
    for words in (
        "is at work: wait until it has finished",
        "replication slots, which don't come along: standby",
        "databases that accept no connection, which pg_upgrade can't read: shut",
        "the extension pg_trgm of payments isn't there for PostgreSQL 17",
        "indexes of payments were sorted by an older version of their collation: public.by_name",
        "The copy of the cluster needs about",
        "which archives the write-ahead log, doesn't know PostgreSQL 17",
    ):
        assert words in said
    assert db.version() == 15
    assert db.archives()
    assert [backup["type"] for backup in db.chain()] == ["full"]


def test_the_role_makes_no_empty_cluster_beside_the_data(
    db: Server, host: Host, server_name: str
) -> None:
    said = refused(server_name, postgresql_version="17")
    assert MESSAGE in said
    assert "bedstone upgrade postgresql --to 17" in said
    assert not host.file("/etc/postgresql/17/main").exists
    assert db.version() == 15


def test_a_rehearsal_harms_nobody_and_says_how_long_it_will_be_dark(db: Server, host: Host) -> None:
    started = db.admin("SELECT pg_postmaster_start_time()")
    said = db.played("to=17", "rehearse=true")
    assert "pg_upgrade of PostgreSQL 17 finds nothing in the way" in said
    assert re.search(r"\d+ rows of 2 tables are as they were counted", said)
    assert re.search(r"The apps will be closed for \d+ minutes? at most", said)
    assert db.admin("SELECT pg_postmaster_start_time()") == started
    assert host.check_output("ls /var/cache/bedstone-verify") == ""


def test_nobody_at_the_terminal_means_no(db: Server) -> None:
    assert "nobody is there to answer" in db.refused("--to", "17")
    assert db.version() == 15


def test_killed_in_the_middle_the_old_version_serves(
    db: Server, host: Host, wait_until: Callable[..., None]
) -> None:
    host.run("bedstone upgrade postgresql --to 17 --yes > /tmp/killed 2>&1 & disown")
    # It stays where it is then, however long the next questions take.
    wait_until(
        lambda: host.run("pkill -STOP -x pg_upgrade").rc == 0,
        seconds=LIMIT_SECONDS,
        what="pg_upgrade is at work",
    )
    assert db.sql("SELECT 1").rc != 0, "nobody but the superuser gets in meanwhile"
    assert host.file(PAGE).exists, "visitors see the page"
    host.run("kill -9 $(systemctl show -P MainPID bedstone-upgrade)")
    wait_until(
        lambda: host.run("pgrep -f '[u]pgrade postgresql'").rc != 0,
        seconds=LIMIT_SECONDS,
        what="it is settled",
    )
    said = host.file("/tmp/killed").content_string
    assert "PostgreSQL 15 serves again" in said
    assert db.version() == 15
    assert db.open()
    assert db.lost() == 0
    assert db.starts() == {"15": "auto"}
    assert host.run("pgrep -x 'pg_upgrade|pg_upgradeclust'").rc != 0
    assert not host.file(JOURNAL).exists
    assert host.service("postgresql@15-main").is_running


def test_a_failure_in_the_middle_leads_back(db: Server, host: Host) -> None:
    # The new version's pg_upgrade fails late: after the old cluster was stopped.
    program = "/usr/lib/postgresql/17/bin/pg_upgrade"
    host.check_output(f"mv {program} {program}.real")
    script = f'#!/bin/sh\\nfor a; do [ $a = --check ] && exec {program}.real "$@"; done\\n'
    host.check_output(f"printf '{script}echo no space left; exit 1\\n' > {program}")
    host.check_output(f"chmod 755 {program}")
    try:
        done = db.upgrade("--to", "17", "--yes")
    finally:
        host.check_output(f"mv {program}.real {program}")
    assert done.rc == 1
    assert "pg_upgradecluster failed" in done.stdout
    assert "no space left" in done.stdout
    assert "PostgreSQL 15 serves as before" in done.stdout
    assert db.version() == 15
    assert db.open()
    assert db.starts() == {"15": "auto"}
    db.pay("after the failure")


def test_a_copy_that_is_not_equal_does_not_come_to_serve(db: Server, host: Host) -> None:
    # A hook of the operator changes the new cluster during the upgrade.
    hook = "/etc/postgresql-common/pg_upgradecluster.d/zz-test"
    host.check_output(
        f"printf '#!/bin/sh\\nexit 0\\n' > {hook}; chmod 755 {hook};"
        " install -d /etc/systemd/system/bedstone-upgrade.service.d"
    )
    wrapper = "/usr/local/bin/pg_upgradecluster"
    host.check_output(
        f'printf \'#!/bin/sh\\n/usr/bin/pg_upgradecluster "$@" || exit 1\\n'
        "pg_ctlcluster --skip-systemctl-redirect 17 main start || exit 1\\n"
        'runuser -u postgres -- psql -p 5433 payments -c "DELETE FROM audit.entry WHERE id = 1"\\n'
        "pg_ctlcluster --skip-systemctl-redirect 17 main stop\\n'"
        f" > {wrapper}; chmod 755 {wrapper}"
    )
    try:
        done = db.upgrade("--to", "17", "--yes")
    finally:
        host.check_output(f"rm -f {wrapper} {hook}")
    assert done.rc == 1
    assert "The copy doesn't hold what PostgreSQL 15 holds" in done.stdout
    assert re.search(r"table audit.entry: \d+ rows before, \d+ now", done.stdout)
    assert db.version() == 15
    assert db.starts() == {"15": "auto"}


def test_the_upgrade_keeps_data_privileges_and_passwords(db: Server, host: Host) -> None:
    db.pay("before the upgrade")
    said = db.played("to=17")
    assert "PostgreSQL 17 takes over" in said
    assert "A new archive of the write-ahead log has begun" in said
    assert re.search(r"The apps were closed for \d+ s", said)
    assert db.version() == 17
    assert db.open()
    assert db.lost() == 0
    db.pay("after the upgrade")
    assert db.sql("DELETE FROM audit.entry").rc != 0, "a right that was taken away"
    assert db.sql("INSERT INTO payment (title, amount) VALUES ('x', -1)").rc != 0, "a constraint"
    who = db.sql("SELECT current_user; SHOW lock_timeout", role="payments_migrate").stdout.split()
    assert who == ["payments_owner", "5s"]
    assert db.admin("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'payment'", "payments")
    assert db.admin("SHOW data_checksums") == "on"
    assert db.starts() == {"15": "manual", "17": "auto"}
    assert host.service("postgresql@17-main").is_running
    assert not host.file(JOURNAL).exists
    points = host.check_output("bedstone backups payments --json")
    assert "before PostgreSQL 17" in points


def test_what_is_archived_goes_on_and_what_was_archived_can_be_had(
    db: Server, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: not db.backs_up(), seconds=LIMIT_SECONDS, what="the full backup has ended")
    old, new = db.chain()
    assert (old["type"], new["type"]) == ("full", "full")
    assert db.archives()
    db.pay("in the new archive")
    moment = db.admin("SELECT clock_timestamp()")
    db.pay("later than the moment")
    titles = db.titles_at(moment)
    assert "in the new archive" in titles
    assert "later than the moment" not in titles
    # With the programs of 15, which are there until an operator removes them.
    then = datetime.fromisoformat(old["finished_at"]) + timedelta(seconds=2)
    titles = db.titles_at(then.isoformat())
    assert "payment 5000" in titles
    assert "before the upgrade" not in titles
    wrong = [problem for problem in db.status()["problems"] if problem.startswith("WAL")]
    assert wrong == []


def test_the_role_goes_on_with_the_new_version(db: Server, host: Host, server_name: str) -> None:
    assert MESSAGE in refused(server_name, postgresql_version="15")
    first = applied(server_name, postgresql_version="17")
    assert "failed=0" in first
    second = applied(server_name, postgresql_version="17")
    assert re.search(r"changed=0\b", second)
    db.hold_timers()
    assert host.run("bedstone backup").rc == 0
    assert db.version() == 17


def test_a_power_cut_at_the_moment_of_the_change_is_finished_at_boot(
    db: Server, host: Host
) -> None:
    host.check_output("systemctl stop postgresql@17-main")
    host.check_output("echo manual > /etc/postgresql/17/main/start.conf; systemctl daemon-reload")
    journal = {
        "source": 15, "target": 17, "port": 5432, "phase": "switched", "back": False, "made": True,
        "pages": [], "units": [], "healthy": [], "dark_since": None, "caller": "root",
    }  # fmt: skip
    host.check_output(
        f"install -m 600 /dev/null {JOURNAL}; echo '{json.dumps(journal)}' > {JOURNAL}"
    )
    assert host.run("systemctl start bedstone-upgrade").rc == 0
    assert db.version() == 17
    assert db.starts() == {"15": "manual", "17": "auto"}
    assert not host.file(JOURNAL).exists


def test_the_way_back_leads_to_the_data_of_before(db: Server) -> None:
    said = db.upgrade("--back")
    assert said.rc == 3
    assert "EVERYTHING WRITTEN SINCE IS MISSING THERE" in said.stderr
    db.upgraded("--back", "--yes")
    assert db.version() == 15
    assert db.open()
    assert db.archives(), "the log goes on where 15 serves"
    found = db.sql("SELECT title FROM payment WHERE title LIKE '% the upgrade'").stdout.split("\n")
    assert found[0] == "before the upgrade"
    assert "after the upgrade" not in found, "it is in the other cluster"
    assert db.starts() == {"15": "auto", "17": "manual"}
    assert "--drop-old" in db.refused("--to", "17")


def test_what_was_written_since_can_be_fetched_as_the_docs_say(db: Server, host: Host) -> None:
    control = "cd / && runuser -u postgres -- /usr/lib/postgresql/17/bin/pg_ctl"
    data = "--pgdata /var/lib/postgresql/17/main"
    settings = "-c config_file=/etc/postgresql/17/main/postgresql.conf -c port=6432"
    host.check_output(
        f"{control} start {data} --log /tmp/look.log"
        f" --options '{settings} -c listen_addresses= -c archive_mode=off'"
    )
    query = "SELECT count(*) FROM payment WHERE title = $$after the upgrade$$"
    try:
        found = host.check_output(
            f"cd / && runuser -u postgres -- psql -XAtq --port 6432 payments -c '{query}'"
        )
    finally:
        host.check_output(f"{control} stop {data}")
    assert found == "1"
    assert db.version() == 15


def test_the_old_cluster_goes_when_a_person_says_so(
    db: Server, host: Host, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: not db.backs_up(), seconds=LIMIT_SECONDS, what="the full backup has ended")
    db.played("back=true")
    assert db.version() == 17, "the way back leads forth again"
    assert "no way back" in db.refused("--drop-old")
    db.upgraded("--drop-old", "--yes")
    assert not host.file("/var/lib/postgresql/15/main").exists
    assert "no cluster of before" in db.refused("--back")
    assert db.version() == 17
    wait_until(lambda: not db.backs_up(), seconds=LIMIT_SECONDS, what="the full backup has ended")
    assert db.archives()


def test_without_the_old_programs_its_moments_say_what_they_need(db: Server, host: Host) -> None:
    programs = "/usr/lib/postgresql/15"
    then = datetime.fromisoformat(db.chain()[0]["finished_at"]) + timedelta(seconds=2)
    host.check_output(f"mv {programs} {programs}.away")
    try:
        done = db.at(then.isoformat())
    finally:
        host.check_output(f"mv {programs}.away {programs}")
    assert done.rc != 0
    assert "The cluster is of PostgreSQL 15, which this server doesn't have" in done.stderr
    assert "Install postgresql-15" in done.stderr
