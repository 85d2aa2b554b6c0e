"""Memory settings from the host's size, and the lines of pg_hba.conf."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone_control.roles.postgresql import (
    nominal_memory_mb,
    postgresql_hba,
    postgresql_ident,
    postgresql_memory,
    postgresql_value,
)
from tests.unit.fixtures.cluster import Cluster

PAY = {"name": "pay", "migrate_role": "pay_migrate", "app_role": "pay_app"}
SHOP = {"name": "shop", "migrate_role": "shop_migrate", "app_role": "shop_app"}
sizes = st.integers(min_value=256, max_value=1 << 20)


def megabytes(text: str) -> int:
    return int(text.removesuffix("MB"))


@pytest.mark.parametrize(
    ("kernel_mb", "sold_mb"),
    [(480, 480), (980, 1024), (1968, 2048), (3915, 4096), (7950, 8192), (64300, 65536)],
)
def test_nominal_size_is_what_the_host_was_sold_with(kernel_mb: int, sold_mb: int) -> None:
    assert nominal_memory_mb(kernel_mb) == sold_mb


@given(sizes)
def test_nominal_size_is_never_far_off(memory_mb: int) -> None:
    assert memory_mb <= nominal_memory_mb(memory_mb) <= memory_mb * 1.13 + 32


def test_another_kernel_changes_no_setting() -> None:
    assert postgresql_memory(3915) == postgresql_memory(3871)


@given(sizes, st.integers(10, 100), st.none() | st.integers(10, 10000))
def test_settings_fit_the_budget(memory_mb: int, share: int, connections: int | None) -> None:
    given_settings = postgresql_memory(memory_mb, share, connections)
    budget = nominal_memory_mb(memory_mb) * share // 100
    assert megabytes(given_settings["shared_buffers"]) <= max(budget // 4, 64)
    assert 4 <= megabytes(given_settings["work_mem"]) <= 64
    assert 512 <= megabytes(given_settings["max_wal_size"]) <= 4096
    if connections:
        assert given_settings["max_connections"] == str(connections)


def test_larger_host_gets_no_less() -> None:
    small, large = postgresql_memory(2048), postgresql_memory(16384)
    for name in ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem"):
        assert megabytes(small[name]) < megabytes(large[name]), name


@given(sizes, st.integers(10, 100))
def test_settings_are_in_the_ranges_that_postgresql_takes(memory_mb: int, share: int) -> None:
    for name, value in postgresql_memory(memory_mb, share).items():
        assert int(value.removesuffix("MB")) > 0, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4096, 5, None), "share_percent is 5; use 10 to 100"),
        ((4096, 50, 3), "max_connections is 3"),
        ((128, 50, None), "128 MB of memory are too little"),
    ],
)
def test_number_out_of_range_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        postgresql_memory(*arguments)


def fields(line: str) -> list[str]:
    return line.split()


def test_roles_reach_only_their_own_database_with_tls_and_scram() -> None:
    lines = [fields(line) for line in postgresql_hba([PAY, SHOP], ["10.0.0.0/24"])]
    remote = [line for line in lines if line[0].startswith("host")]
    assert remote == [
        ["hostssl", '"pay"', '"pay_migrate","pay_app"', "10.0.0.0/24", "scram-sha-256"],
        ["hostssl", '"shop"', '"shop_migrate","shop_app"', "10.0.0.0/24", "scram-sha-256"],
        ["host", "all", "all", "all", "reject"],
    ]


def test_superuser_comes_over_the_socket_only() -> None:
    lines = [fields(line) for line in postgresql_hba([PAY], ["10.0.0.0/24"])]
    naming = [line for line in lines if "postgres" in line]
    assert naming == [["local", "all", "postgres", "peer"]]


def test_everything_not_named_is_refused_at_the_end() -> None:
    assert [fields(line)[-1] for line in postgresql_hba([], [])[-2:]] == ["reject", "reject"]


def test_client_certificates_are_asked_for_besides_the_password() -> None:
    lines = postgresql_hba([{**PAY, "client_certificate": True}, SHOP], ["10.0.0.0/24"])
    remote, other = [line for line in lines if line.startswith("hostssl")]
    assert remote.endswith("scram-sha-256 clientcert=verify-full")
    assert other.endswith("scram-sha-256")


def test_members_of_the_app_role_may_come_where_the_app_has_a_login_of_its_own() -> None:
    pay = {**PAY, "app_login": "pay_app_00000001"}
    (remote,) = [
        fields(line) for line in postgresql_hba([pay], ["10.0.0.0/24"]) if "hostssl" in line
    ]
    assert remote[2] == '"pay_migrate",+"pay_app"'
    with pytest.raises(ValueError, match="pay can't have an app_login"):
        postgresql_hba([{**pay, "client_certificate": True}], ["10.0.0.0/24"])


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.0.0.1/24", "office", ""])
def test_network_that_is_everybody_or_none_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match="postgresql_allowed_networks"):
        postgresql_hba([PAY], [network])


def test_local_role_is_one_system_user() -> None:
    roles = [{"name": "monitor", "system_user": "prometheus"}]
    assert [fields(line) for line in postgresql_ident(roles)] == [
        ["bedstone", "prometheus", '"monitor"']
    ]
    with pytest.raises(ValueError, match="system user"):
        postgresql_ident([{"name": "monitor", "system_user": "/^.*$"}])


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "on"), (False, "off"), (7, "'7'"), ("it's", "'it''s'"), ("a\\b", "'a\\\\b'")],
)
def test_value_is_quoted_for_postgresql_conf(value: Any, written: str) -> None:
    assert postgresql_value(value) == written


def test_value_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="one line"):
        postgresql_value("on\nfsync = off")


def test_postgresql_itself_reads_the_lines_without_an_error(cluster: Cluster) -> None:
    hba = cluster.directory / "data" / "pg_hba.conf"
    roles = [{"name": "monitor", "system_user": "prometheus"}]
    kept = hba.read_text()
    try:
        hba.write_text("\n".join(postgresql_hba([PAY], ["10.0.0.0/24", "fd00::/64"], roles)) + "\n")
        # This server has no certificate, which it says of each hostssl line.
        asked = "SELECT count(*), count(*) FILTER (WHERE error !~ 'SSL is disabled')"
        assert cluster.psql(f"{asked} FROM pg_hba_file_rules").strip() == "6|0"
    finally:
        hba.write_text(kept)
