"""The cluster comes back as it was at a moment, from each destination, or it is said why not."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import units

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.pgbackrest.conftest import Cluster

UNITS = ["bedstone-verify.service", "postgresql@*"]
HOME = "/var/backups/bedstone/payments"
PLACES = "/var/cache/bedstone-restore/payments"
VERIFY = "/var/cache/bedstone-verify"

TABLE = """
SET ROLE payments_owner;
CREATE TABLE event (id bigserial PRIMARY KEY, said text CHECK (length(said) > 0));
"""


class Past:
    """What has happened, and when."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.moments: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Commit a row and remember a moment after it."""
        self.cluster.sql(f"INSERT INTO event (said) VALUES ('{text}')")
        self.moments[text] = self.cluster.sql(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
            " || '+00:00'; SELECT pg_sleep(1.1) \\g /dev/null"
        )

    def said(self, database: str = "payments") -> list[str]:
        """Return what is in a database."""
        return self.cluster.sql("SELECT said FROM event ORDER BY id", database).splitlines()

    def restore(self, text: str, arguments: str = "") -> Any:
        """Restore the app's database as it was after something was said."""
        moment = self.moments.get(text, text)
        return self.cluster.run(
            f"restore payments --time {shlex.quote(moment)} --yes --json {arguments}"
        )


@pytest.fixture(scope="module")
def past(cluster: Cluster) -> Iterator[Past]:
    """Two backups at each destination, with something said before, between and after them."""
    cluster.sql(f"DROP TABLE IF EXISTS event; {TABLE}")
    found = Past(cluster)
    cluster.host.check_output(f"rm -rf {HOME}")
    found.say("before all")
    cluster.bedstone("backup payments")
    cluster.backup("full")
    for text in ("one", "two"):
        found.say(text)
    cluster.backup("incremental")
    for text in ("three", "four"):
        found.say(text)
    yield found
    cluster.sql("DROP TABLE event")


@pytest.fixture(autouse=True)
def beside(cluster: Cluster) -> Iterator[None]:
    """Drop what a test restored into a new database."""
    yield
    cluster.sql(
        "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database"
        " WHERE datname LIKE 'payments\\_%' \\gexec",
        "postgres",
    )


def left(host: Host, place: str) -> list[str]:
    return str(host.check_output(f"ls -A {place} 2>/dev/null || true")).split()


def running(host: Host) -> bool:
    """Return whether any process of a temporary cluster still runs."""
    return bool(host.run("pgrep -f '[v]erify-[0-9a-f]{12}'").rc == 0)


def test_moment_comes_back_from_each_destination(past: Past) -> None:
    for name in past.cluster.repositories():
        done = past.restore("one", f"--destination {name} --into payments_{name}")
        assert done.rc == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["destination"] == name
        ended = datetime.fromisoformat(result["ended_at"])
        assert ended <= datetime.fromisoformat(past.moments["one"])
        assert past.said(f"payments_{name}") == ["before all", "one"]
    assert past.said()[-1] == "four"
    assert left(past.cluster.host, PLACES) == []
    assert not running(past.cluster.host)


def test_moment_after_the_last_backup_comes_out_of_the_wal(past: Past) -> None:
    failures = past.cluster.sql("SELECT failed_count FROM pg_stat_archiver")
    done = past.restore("three", "--into payments_look")
    assert done.rc == 0, done.stderr
    assert past.said("payments_look") == ["before all", "one", "two", "three"]
    # What is archived is production's alone: the temporary cluster has pushed nothing, and what
    # waited to be pushed was left alone.
    assert past.cluster.sql("SELECT failed_count FROM pg_stat_archiver") == failures
    assert "00000002" not in past.cluster.listed("local")["newest_wal"][:8]


def test_moment_is_put_in_place_and_is_a_backup_from_then_on(past: Past) -> None:
    cluster = past.cluster
    done = past.restore("three")
    assert done.rc == 0, done.stderr
    assert past.said() == ["before all", "one", "two", "three"]
    old = json.loads(done.stdout)["old_database"]
    assert past.said(old)[-1] == "four"
    made = json.loads(cluster.bedstone("backups payments --json"))
    assert [entry for entry in made if (entry["label"] or "").startswith("as of ")]
    back = cluster.run(f"restore payments {_latest(cluster)} --yes")
    assert back.rc == 0, back.stderr
    cluster.sql("INSERT INTO event (said) VALUES ('one'), ('two'), ('three'), ('four')")


def _latest(cluster: Cluster) -> str:
    made = json.loads(cluster.bedstone("backups payments --json"))
    return str(next(entry["name"] for entry in made if not entry["restore_point"]))


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2020-01-01 00:00:00+00:00", "oldest backup was complete at"),
        ("2099-01-01 00:00:00+00:00", "is in the future"),
    ],
)
def test_moment_that_can_not_be_reached_names_those_that_can(
    past: Past, moment: str, said: str
) -> None:
    before = past.said()
    refused = past.restore(moment)
    assert refused.rc == 3, refused.stdout
    assert said in refused.stderr
    assert "(the earliest)" in refused.stderr
    assert "(the latest)" in refused.stderr
    assert past.said() == before


# The same recovery as above, and then Python's work alone.
def test_moment_behind_a_hole_is_not_the_moment_before_it(past: Past) -> None:
    cluster = past.cluster
    first = cluster.switch()
    past.say("lost")
    hole = cluster.switch()
    past.say("behind it")
    cluster.bedstone("wal ready")
    found = cluster.host.check_output(
        f"find /var/lib/pgbackrest/archive -name '{hole}-*'; true"
    ).strip()
    assert first < hole
    assert found
    cluster.host.check_output(f"mv {found} /root/aside")
    try:
        refused = past.restore("behind it", "--into payments_look")
        assert refused.rc == 3, refused.stderr
        assert "has a hole after" in refused.stderr
        assert hole in refused.stderr
        verified = cluster.run("verify --kind wal --destination local")
        assert verified.rc == 1
        assert "although the segment" in verified.stderr
    finally:
        cluster.host.check_output(f"mv /root/aside {found}")
    done = past.restore("behind it", "--into payments_look")
    assert done.rc == 0, done.stderr
    assert past.said("payments_look")[-1] == "behind it"


def test_what_can_be_reached_is_listed(past: Past) -> None:
    listed = json.loads(past.cluster.bedstone("restore payments --list --json"))
    assert [window["destination"] for window in listed["moments"]] == past.cluster.repositories()
    for window in listed["moments"]:
        assert window["earliest"] < window["latest"]
        assert window["missing"] == []
    assert listed["problems"] == {}


# The same recovery as above, and then Python's work alone.
def test_killed_in_the_middle_it_leaves_nothing_that_the_next_does_not_clear(
    past: Past, wait_until: Callable[..., None]
) -> None:
    host = past.cluster.host
    moment = shlex.quote(past.moments["two"])
    units.run_until(
        host,
        f"/usr/local/bin/bedstone restore payments --time {moment} --yes > /dev/null 2>&1 & pid=$!",
        "pgrep -f '[v]erify-[0-9a-f]*: startup'",
        "kill -9 $pid; wait $pid; true",
    )
    wait_until(lambda: not running(host), seconds=60, what="the cluster ends with the program")
    assert left(host, PLACES)
    assert "four" in past.said()
    done = past.restore("two", "--into payments_look")
    assert done.rc == 0, done.stderr
    assert left(host, PLACES) == []


def test_wal_of_each_destination_is_verified_in_the_unit(past: Past) -> None:
    cluster, host = past.cluster, past.cluster.host
    cluster.bedstone("copy")
    # Caches may be emptied by anybody.
    host.check_output(f"rm -rf {VERIFY}")
    before = cluster.sql("SELECT pg_postmaster_start_time()")
    journal = units.Journal(host, "bedstone-verify.service")
    done = host.run("systemctl start bedstone-verify.service")
    assert done.rc == 0, journal.text()
    journal.says("1 databases with", "sound (amcheck)")
    for name in cluster.repositories():
        journal.says(f"the WAL at {name} is verified")
        where = "" if name == "local" else f" at {name}"
        dump = re.compile(rf"the dump of backup_\d+_\d+{where} is verified")
        units.wait(lambda dump=dump: dump.search(journal.text()), dump.pattern)
    assert cluster.sql("SELECT pg_postmaster_start_time()") == before
    assert left(host, VERIFY) == []
    assert not running(host)
    shown = cluster.status()["wal_verifications"]
    # What another host verifies (test_elsewhere.py) isn't on this one.
    assert [entry["destination"] for entry in shown if entry["verified_at"]] == (
        cluster.repositories()[1:]
    )


# The same recovery as above, and then Python's work alone.
def test_wal_that_lacks_a_table_of_the_last_backup_fails(past: Past) -> None:
    cluster, host = past.cluster, past.cluster.host
    cluster.sql("SET ROLE payments_owner; CREATE TABLE missing (id int)")
    made = json.loads(cluster.bedstone("backup payments --json"))["backups"][0]["path"]
    try:
        cluster.sql("DROP TABLE missing")
        past.say("after it")
        cluster.bedstone("wal ready")
        failed = cluster.run("verify --kind wal --destination local")
        assert failed.rc == 1, failed.stdout
        assert "Tables of payments that the last backup has aren't in it" in failed.stderr
        assert "public.missing" in failed.stderr
        assert "FAILED" in failed.stderr
    finally:
        host.check_output(f"rm -rf {made}")
    cluster.bedstone("verify --kind wal --destination local")
    cluster.is_well()
