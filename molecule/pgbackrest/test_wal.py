"""WAL and backups arrive at each destination, encrypted, and can be restored from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.pgbackrest.conftest import Cluster

UNITS = ["bedstone-wal-full.service", "bedstone-wal-incremental.service", "postgresql@*"]
CONF = "/etc/pgbackrest/pgbackrest.conf"


@pytest.fixture(scope="module")
def backed_up(cluster: Cluster) -> Cluster:
    """A full backup with one row, an incremental one with a second, and WAL with a third."""
    cluster.pay("in the full backup")
    cluster.host.check_output("systemctl start bedstone-wal-full.service")
    cluster.pay("in the incremental backup")
    cluster.host.check_output("systemctl start bedstone-wal-incremental.service")
    cluster.pay("in the WAL alone")
    cluster.bedstone("wal ready")
    return cluster


def test_units_are_sound_and_come_last(host: Host) -> None:
    units = "/etc/systemd/system/bedstone-wal-*"
    done = host.run(f"systemd-analyze verify {units}.service {units}.timer")
    assert done.rc == 0, done.stderr
    assert "bedstone-wal" not in done.stderr
    shown = host.check_output("systemctl cat bedstone-wal-full.service")
    assert "IOSchedulingClass=idle" in shown
    # systemd keeps dependencies as a set: their order is another one on each machine.
    failing = host.check_output("systemctl show -P OnFailure bedstone-wal-full.service").split()
    assert "bedstone-failed@bedstone-wal-full.service.service" in failing


def test_secrets_are_the_databases_users_alone(host: Host) -> None:
    conf = host.file(CONF)
    assert (conf.user, conf.group, conf.mode) == ("root", "postgres", 0o640)
    for name in ("id", "known_hosts"):
        key = host.file(f"/etc/pgbackrest/destinations/offsite/{name}")
        assert (key.user, key.mode) == ("postgres", 0o600)
    assert host.run(f"runuser -u nobody -- cat {CONF}").rc != 0


def test_convergence_ended_with_archived_wal(
    cluster: Cluster, wait_until: Callable[..., None]
) -> None:
    archived = cluster.sql("SELECT archived_count > 0 FROM pg_stat_archiver")
    assert archived == "t"
    # Each minute there may be a segment on its way.
    wait_until(lambda: cluster.ready_files() == 0, seconds=60)


def test_row_arrives_at_each_destination(cluster: Cluster, wait_until: Callable[..., None]) -> None:
    cluster.pay("on its way")
    segment = cluster.switch()
    for name in cluster.repositories():
        wait_until(
            lambda name=name: (cluster.listed(name)["newest_wal"] or "") >= segment,
            seconds=120,
            what=f"{segment} is at {name}",
        )


def test_idle_server_archives_what_it_has(cluster: Cluster) -> None:
    assert cluster.sql("SHOW archive_timeout") == "1min"
    assert cluster.sql("SHOW archive_mode") == "on"


def test_backups_arrive_at_each_destination(backed_up: Cluster) -> None:
    for name in backed_up.repositories():
        types = [backup["type"] for backup in backed_up.listed(name)["backups"]]
        assert types[-2:] == ["full", "incr"], name
    backed_up.is_well()
    places = {place["name"]: place for place in backed_up.status()["wal"]["destinations"]}
    assert all(places[name]["newest_at"] for name in backed_up.repositories())


def test_nobody_reads_what_left_the_server(backed_up: Cluster, offsite: Host) -> None:
    place = "/srv/bedstone/trixie/pgbackrest"
    # pgBackRest's encrypted files begin so; those in bundles have no beginning of their own.
    shown = offsite.check_output(f"head -c 8 {place}/archive/main/archive.info")
    assert shown == "Salted__"
    zstd = f"find {place} -type f -exec head -c 4 {{}} + | grep -c $'\\x28\\xb5\\x2f\\xfd'"
    assert offsite.run(f"bash -c {zstd!r}").stdout.strip() == "0"
    number = backed_up.number("bucket")
    raw = backed_up.host.check_output(
        f"runuser -u postgres -- pgbackrest --repo={number} repo-get --raw"
        " archive/main/archive.info | head -c 8"
    )
    assert raw == "Salted__"


@pytest.mark.parametrize("destination", ["local", "offsite", "bucket"])
def test_cluster_is_restored_from_each_destination(backed_up: Cluster, destination: str) -> None:
    done = backed_up.restore(destination)
    assert done.rc == 0, done.stderr
    assert done.stdout.strip() == backed_up.listed(destination)["backups"][-1]["label"]
    backed_up.recover()
    assert backed_up.rows_restored()[-3:] == [
        "in the full backup",
        "in the incremental backup",
        "in the WAL alone",
    ]


def test_cluster_is_restored_to_a_moment(backed_up: Cluster) -> None:
    moment = backed_up.sql("SELECT clock_timestamp()::timestamptz(6)")
    backed_up.pay("after that moment")
    backed_up.bedstone("wal ready")
    done = backed_up.restore("local", f"target=datetime.fromisoformat({moment!r})")
    assert done.rc == 0, done.stderr
    backed_up.recover()
    assert backed_up.rows_restored()[-1] == "in the WAL alone"
    backed_up.sql("DELETE FROM payment WHERE title = 'after that moment'")


def test_moment_before_the_first_backup_is_refused(backed_up: Cluster) -> None:
    refused = backed_up.restore("local", "target=datetime.fromisoformat('2020-01-01T00:00:00Z')")
    assert refused.rc != 0
    assert "can't bring the cluster to 2020-01-01 00:00:00 UTC" in refused.stderr
    assert backed_up.host.check_output("ls -A /var/lib/postgresql/restored") == ""


# The same restore as above with one more option.
def test_one_database_alone_is_restored(backed_up: Cluster) -> None:
    assert backed_up.restore("local", "databases=['payments']").rc == 0
    backed_up.recover()
    assert "in the WAL alone" in backed_up.rows_restored()


def test_old_chains_go_and_the_rest_can_be_restored(
    backed_up: Cluster, configuration: Callable[..., None]
) -> None:
    # 0 days ago is reached from the newest.
    configuration('s/"keep_days": [0-9]*/"keep_days": 0/', "/etc/bedstone/destinations.json")
    configuration('s/"keep_full": [0-9]*/"keep_full": 1/', "/etc/bedstone/destinations.json")
    backed_up.bedstone("retention --accept")
    before = backed_up.listed("local")
    (made,) = backed_up.backup("full", "local")
    after = backed_up.listed("local")
    assert [backup["label"] for backup in after["backups"]] == [made["label"]]
    assert made["chains"] == 1
    assert after["oldest_wal"] > before["oldest_wal"]
    assert backed_up.restore("local").rc == 0
    backed_up.recover()
    assert backed_up.rows_restored()[-1] == "in the WAL alone"


def test_list_is_for_people(backed_up: Cluster) -> None:
    shown = backed_up.bedstone("wal list")
    assert "local (this server)" in shown
    assert "full" in shown
    assert json.loads(backed_up.bedstone("wal list --json"))
