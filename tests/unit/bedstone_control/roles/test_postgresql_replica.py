"""A copy of the databases on another host: who may stream, what apps get, what stays the same."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone_control import names
from bedstone_control.roles import ca, environment, pgbackrest, postgresql
from bedstone_control.roles.role import openings
from bedstone_control.roles.site import Site
from tests.unit.fixtures.roles import site_of

ADDRESSES = {"web1": "192.0.2.10", "db2": "192.0.2.20"}
CONTROL_DATA = """\
pg_control version number:            1700
max_connections setting:              200
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           5
max_locks_per_xact setting:           64
"""


def site(host: str = "web1", primary: str = "web1", copy: str = "db2", **changes: Any) -> Site:
    """Return web1 with the app, and the databases on two hosts."""
    app = {
        "name": "shop",
        "source": {"image": "registry.example.com/shop:1"},
        "services": {"web": {"port": 3000}},
        "database": {"replica": True},
    }
    given = {
        "groups": {
            "all": ["web1", "db2"],
            "app": ["web1"],
            "postgresql": [primary],
            "postgresql_replica": [copy],
        },
        "addresses": ADDRESSES,
        "host": host,
    }
    passwords = {"database_password": "p" * 20, "database_migrate_password": "m" * 20}
    secrets = {"apps": {"shop": {**passwords, "secret_key": "k"}}}
    return site_of({"apps": [app]}, secrets, **given | changes)


def opened(site: Site) -> set[str]:
    """Return the networks that reach PostgreSQL's port."""
    found = openings(site)
    return {net for each in found if each["port"] == 5432 for net in each["networks"] or ["all"]}


def test_primary_opens_its_port_to_the_copy_and_the_copy_to_the_apps() -> None:
    assert "192.0.2.20/32" in opened(site())
    assert "192.0.2.20/32" not in postgresql.allowed_networks(site())
    assert opened(site("db2")) == {"192.0.2.10/32"}


def test_addresses_and_certificate_stay_the_same_through_a_promotion() -> None:
    before, after = site("db2"), site("db2", primary="db2", copy="web1")
    assert postgresql.listen_addresses(before) == postgresql.listen_addresses(after)
    assert ca.certificates(before) == ca.certificates(after)
    (server, login) = ca.certificates(before)
    assert {"postgres", "postgres-replica", "192.0.2.20"} <= set(server["names"])
    assert (login["usage"], login["common_name"]) == ("client", "bedstone_replication")


def test_without_a_copy_nothing_changes() -> None:
    groups = {name: ["web1"] for name in ("all", "app", "postgresql")}
    alone = site(groups=groups)
    assert postgresql.replicas(alone) == []
    assert postgresql.primary(alone) is None
    assert postgresql.listen_addresses(alone) == ["localhost", "172.17.0.1"]
    assert [each["name"] for each in ca.certificates(alone)] == ["postgresql"]


def test_copy_streams_by_certificate_over_tls_from_one_address() -> None:
    lines = postgresql.postgresql_hba([], replicas=postgresql.replicas(site()))
    found = [line.split() for line in lines if " replication " in line]
    expected = ["hostssl", "replication", '"bedstone_replication"', "192.0.2.20/32", "cert"]
    assert found == [expected]


def test_app_gets_the_address_of_the_copy() -> None:
    here = site()
    values = environment.environment(here, here.settings.apps[0])
    assert "@postgres-replica:5432/shop?sslmode=verify-full" in values["DATABASE_REPLICA_URL"]
    assert values["DATABASE_REPLICA_URL"].startswith("postgresql://shop_app_")
    hosts = environment.hosts(here, here.settings.apps[0])
    assert (hosts["postgres"], hosts["postgres-replica"]) == ("172.17.0.1", "192.0.2.20")
    swapped = site(primary="db2", copy="web1")
    hosts = environment.hosts(swapped, here.settings.apps[0])
    assert (hosts["postgres"], hosts["postgres-replica"]) == ("192.0.2.20", "172.17.0.1")


def test_app_without_the_setting_gets_none() -> None:
    here = site()
    app = here.settings.apps[0].model_copy(update={"database": None})
    assert "DATABASE_REPLICA_URL" not in environment.environment(here, app)


def test_copy_archives_nothing_and_keeps_its_wal_after_a_promotion() -> None:
    assert pgbackrest.archive_command(site()) != ""
    assert pgbackrest.archive_command(site("db2")) == ""
    assert postgresql.keeps_wal(site("db2"))
    assert not postgresql.keeps_wal(site())


def test_copy_needs_one_primary() -> None:
    groups = {"all": ["web1", "db2"], "app": ["web1"], "postgresql_replica": ["db2"]}
    with pytest.raises(ValueError, match="the group `postgresql` has 0"):
        postgresql.primary(site("db2", groups=groups))


def test_settings_of_a_larger_primary_are_raised_and_no_others() -> None:
    own = {"max_connections": "100", "max_worker_processes": 16}
    assert postgresql.postgresql_mirrored(CONTROL_DATA, own) == {
        "max_connections": 200,
        "max_prepared_transactions": 5,
    }
    assert postgresql.postgresql_mirrored("", own) == {}


@pytest.mark.parametrize("host", ["db2", "db-2", "DB2.example.com", "d" * 200])
def test_slot_is_named_as_postgresql_takes_it(host: str) -> None:
    slot = names.replication_slot(host)
    assert slot.startswith("bedstone_d")
    assert len(slot) <= 63
    assert set(slot) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_hosts_of_like_names_have_slots_of_their_own() -> None:
    hosts = ["db-2", "db_2", "db.2", "DB-2"]
    assert len({names.replication_slot(host) for host in hosts}) == len(hosts)
