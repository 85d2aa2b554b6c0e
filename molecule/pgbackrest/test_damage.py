"""Any damage of a repository is found and reported, and nothing there is overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import units

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.pgbackrest.conftest import Cluster

UNITS = ["bedstone-wal-full.service", "bedstone-wal-incremental.service", "postgresql@*"]
LOCAL = "/var/lib/pgbackrest"
CONF = "/etc/pgbackrest/pgbackrest.conf"
RESTORED = "/var/lib/postgresql/restored"


@dataclass(frozen=True)
class Damage:
    """What is done to a repository, and what has to be said.

    Attributes:
        destination: whose.
        harm: shell commands on the server under test, in which N is the repository's number.
        conf: a sed script for pgbackrest.conf, likewise.
        command: what finds it.
        words: what it says.
        code: its exit code.

    """

    destination: str
    harm: str
    conf: str
    command: str
    words: str
    code: int


# Another cluster's archive in the same bucket, made from its files alone.
OTHER_SERVER = """
set -e
rm -rf /var/lib/postgresql/other /run/other.conf
runuser -u postgres -- /usr/lib/postgresql/17/bin/initdb -D /var/lib/postgresql/other > /dev/null
sed -e '/^repo[^N]-/d; s/^repoN-/repo1-/; s#^repo1-path=/trixie/#repo1-path=/other/#' \\
    -e 's#^pg1-path=.*#pg1-path=/var/lib/postgresql/other#' %s > /run/other.conf
chown postgres /run/other.conf
runuser -u postgres -- pgbackrest --config=/run/other.conf --stanza=main --no-online stanza-create
rm -r /var/lib/postgresql/other /run/other.conf
"""

DAMAGES = {
    "wrong key": Damage(
        "bucket", "true", "s/^repoN-cipher-pass=.*/repoN-cipher-pass=another/",
        "wal incremental --destination bucket", "was encrypted with another key", 3,
    ),
    "another server's repository": Damage(
        "bucket", OTHER_SERVER % CONF, "s#^repoN-path=/trixie/#repoN-path=/other/#",
        "wal incremental --destination bucket", "is the WAL of cluster", 3,
    ),
    "repository gone": Damage(
        "local", f"mv {LOCAL}/backup {LOCAL}/archive /root/", "",
        "wal incremental --destination local", "There is no repository at local", 3,
    ),
    "list of backups gone": Damage(
        "local", f"mkdir /root/gone; mv {LOCAL}/backup/main/backup.info* /root/gone/", "",
        "wal incremental --destination local", "there is no whole repository", 3,
    ),
    "bucket gone": Damage(
        "bucket", "true", "s/^repoN-s3-bucket=.*/repoN-s3-bucket=nobodys/",
        "wal full --destination bucket", "the bucket of bucket (s3 offsite", 3,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def backed_up(cluster: Cluster) -> Cluster:
    """A cluster with a backup at each destination, and WAL after it."""
    cluster.backup("full")
    cluster.pay("the first")
    cluster.bedstone("wal ready")
    cluster.pay("the second")
    cluster.bedstone("wal ready")
    return cluster


def everything(cluster: Cluster) -> dict[str, list[str]]:
    """Return the labels of the backups at each destination."""
    shown = json.loads(cluster.run("wal list --json").stdout)
    return {place["destination"]: [made["label"] for made in place["backups"]] for place in shown}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_told_and_nothing_is_overwritten(
    backed_up: Cluster, configuration: Callable[..., None], case: str
) -> None:
    damage = DAMAGES[case]
    before = everything(backed_up)
    number = str(backed_up.number(damage.destination))
    harm, script = damage.harm.replace("N]", f"{number}]"), damage.conf
    harm, script = (text.replace("repoN", f"repo{number}") for text in (harm, script))
    backed_up.host.check_output(f"rm -rf /root/gone; cp -a {LOCAL} /root/whole; {harm}")
    if script:
        configuration(script)
    try:
        done = backed_up.run(damage.command)
        assert damage.words in done.stderr + done.stdout
        assert done.rc == damage.code
        assert "hint: " in done.stderr + done.stdout
    finally:
        backed_up.host.check_output(
            f"cp -a {CONF}.before {CONF};"
            f" if [ ! -e {LOCAL}/backup ]; then mv /root/backup /root/archive {LOCAL}/; fi;"
            f" if [ -d /root/gone ]; then cp -an /root/whole/. {LOCAL}/; fi;"
            " rm -rf /root/gone /root/whole"
        )
    assert everything(backed_up) == before


# As a recovery fetches it: what PostgreSQL fills in for %f and %p, and the code that it sees.
FETCH = """
import pathlib, subprocess
from bedstone.wal import fetch
command = fetch.command_of(pathlib.Path("{home}/postgresql.auto.conf").read_text())
command = fetch.guarded(command, pause_seconds=0.1)
for placeholder, value in {{"%f": "{segment}", "%p": "{home}/fetched", "%%": "%"}}.items():
    command = command.replace(placeholder, value)
command = ["runuser", "-u", "postgres", "--", "sh", "-c", command]
print("code", subprocess.run(command, cwd="/").returncode)
"""


def test_destination_that_fails_stops_a_recovery_and_a_damaged_segment_ends_it(
    backed_up: Cluster, configuration: Callable[..., None]
) -> None:
    segment = backed_up.switch()
    backed_up.bedstone("wal ready")
    done = backed_up.restore("local")
    assert done.rc == 0, done.stderr

    def fetched(name: str) -> str:
        done = backed_up.python(FETCH.format(home=RESTORED, segment=name))
        return str(done.stdout.splitlines()[-1] if done.rc == 0 else done.stderr)

    assert fetched(segment) == "code 0"
    assert fetched(segment[:8] + "F" * 8 + "000000AA") == "code 1"
    path = backed_up.host.check_output(f"ls {LOCAL}/archive/main/*/*/{segment}-*")
    backed_up.host.check_output(f"cp -a {path} /root/segment; truncate -s -100 {path}")
    try:
        assert fetched(segment) == "code 1"
    finally:
        backed_up.host.check_output(f"cp -a /root/segment {path}; rm /root/segment")
    option = f"repo{backed_up.number('local')}-path"
    configuration(f"s#^{option}=.*#{option}=/nowhere#")
    assert fetched(segment) == "code 200"
    backed_up.host.check_output(f"rm -r {RESTORED}")


def test_missing_segment_is_a_gap_until_the_next_backup(backed_up: Cluster) -> None:
    backed_up.host.check_output(f"rm $(ls {LOCAL}/archive/main/*/*/* | tail -2 | head -1)")
    backed_up.bedstone("wal ready")
    assert "WAL at local: the WAL there has a gap: 1 segments" in backed_up.problems()
    backed_up.backup("incremental", "local")
    backed_up.is_well()


def test_full_disk_at_the_destination_is_told(
    backed_up: Cluster, configuration: Callable[..., None], offsite: Host
) -> None:
    before = everything(backed_up)
    host, path, name = offsite, "/srv/small", "offsite"
    number = backed_up.number(name)
    configuration(f"s#^repo{number}-path=.*#repo{number}-path={path}/pgbackrest#")
    # It would try again after a while, for which a test doesn't wait.
    configuration("s/^start-fast=y/start-fast=y\\njob-retry=0/")
    backed_up.bedstone("wal ready")
    try:
        host.check_output(f"dd if=/dev/zero of={path}/filled bs=1M count=7 2>/dev/null; true")
        done = backed_up.run(f"wal full --destination {name}")
        assert done.rc == 1
        assert "its disk is full" in done.stdout
        assert "FAILED" in done.stdout
        # There is space, and it works.
        host.check_output(f"rm {path}/filled")
        assert backed_up.run(f"wal full --destination {name}").rc == 0
    finally:
        host.run(f"rm -rf {path}/*")
        backed_up.host.check_output(f"cp -a {CONF}.before {CONF}")
    assert everything(backed_up) == before
    backed_up.bedstone("wal ready")
    # What was archived into the small repository alone is missing here.
    backed_up.backup("incremental", name)
    backed_up.is_well()


def test_failed_backup_leaves_the_others_theirs(
    backed_up: Cluster, configuration: Callable[..., None]
) -> None:
    before = everything(backed_up)
    number = backed_up.number("bucket")
    # What the bucket doesn't take waits: four segments would fill the scenario's small queue, and
    # a full queue is dropped for all destinations.
    open_queue = "s/^archive-push-queue-max=.*/archive-push-queue-max=1024MB/"
    configuration(open_queue)
    configuration(f"s/^repo{number}-cipher-pass=.*/repo{number}-cipher-pass=another/")
    journal = units.Journal(backed_up.host, "bedstone-wal-incremental.service")
    failed = backed_up.host.run("systemctl start bedstone-wal-incremental.service")
    assert failed.rc != 0
    assert len(backed_up.listed("local")["backups"]) == len(before["local"]) + 1
    journal.says("bucket: FAILED: ", "was encrypted with another key")
    assert "WAL at bucket: " in backed_up.problems()
    # The right key again, and the queue stays open until what waits has gone.
    backed_up.host.check_output(
        f"cp -a {CONF}.before {CONF}.new; sed -i '{open_queue}' {CONF}.new; mv {CONF}.new {CONF}"
    )
    backed_up.host.check_output("systemctl reset-failed bedstone-wal-incremental.service")
    backed_up.bedstone("wal ready")
    backed_up.is_well()


# The lock is the host program's.
def test_second_backup_at_once_is_told_who_is_at_it(backed_up: Cluster) -> None:
    # The first one is held where it is until the second has had its answer.
    units.run_until(
        backed_up.host,
        "/usr/local/bin/bedstone wal full --destination local > /dev/null & pid=$!",
        "pkill -STOP -f '[p]gbackrest.*type=full'",
        "/usr/local/bin/bedstone wal incremental 2> /root/second; code=$?;"
        " pkill -CONT -f '[p]gbackrest.*type=full'; wait $pid && [ $code = 3 ]",
    )
    said = backed_up.host.check_output("cat /root/second")
    assert "wal-backup is locked by `bedstone wal full`" in said


def test_backup_by_pgbackrest_itself_is_told(backed_up: Cluster) -> None:
    # A file may have been left by one that was killed: it counts when a process has it open.
    units.run_until(
        backed_up.host,
        # Not runuser: it stops with its child, and doesn't go on with it.
        "setpriv --reuid=postgres --regid=postgres --init-groups"
        " pgbackrest --stanza=main --repo=1 --type=full backup > /dev/null & pid=$!",
        "lslocks --noheadings --output PATH | grep -q pgbackrest/main-backup"
        " && pkill -STOP -f '^pgbackrest.*type=full'",
        "/usr/local/bin/bedstone wal incremental --destination local > /root/second; code=$?;"
        " pkill -CONT -f '^pgbackrest.*type=full'; wait $pid && [ $code = 3 ]",
    )
    said = backed_up.host.check_output("cat /root/second")
    assert "another backup of this cluster is running" in said


def test_killed_backup_is_none_and_the_next_one_works(
    backed_up: Cluster, wait_until: Callable[..., None]
) -> None:
    before = everything(backed_up)
    units.run_until(
        backed_up.host,
        "systemctl start --no-block bedstone-wal-full.service",
        "pgrep -f '[p]gbackrest.*type=full'",
        "systemctl kill -s KILL bedstone-wal-full.service",
    )
    wait_until(
        lambda: backed_up.host.run("systemctl is-failed bedstone-wal-full.service").rc == 0,
        seconds=60,
        what="the unit has failed",
    )
    backed_up.host.check_output("systemctl reset-failed bedstone-wal-full.service")
    assert everything(backed_up) == before
    assert backed_up.backup("full", "local")[0]["state"] == "succeeded"
