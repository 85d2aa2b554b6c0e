"""What the server runs with, and that a bad configuration never gets in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from again import applied, apply, refused
from testinfra.host import Host

from bedstone_control.roles.postgresql import postgresql_memory

UNITS = ["postgresql@*"]
Query = Callable[..., Any]
Superuser = Callable[..., str]


def words(server: str, **arguments: Any) -> str:
    """Apply the role and return all that it printed, warnings included, on one line."""
    run = apply(server, **arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    return " ".join(f"{run.stdout} {run.stderr}".split())


def main_pid(host: Host, unit: str) -> str:
    return str(host.check_output("systemctl show --property=MainPID --value %s", unit))


def test_data_checksums_are_on(superuser: Superuser) -> None:
    assert superuser("SHOW data_checksums") == "on"


def test_databases_sort_alike_on_every_release(superuser: Superuser) -> None:
    asked = "SELECT DISTINCT datcollate, pg_encoding_to_char(encoding) FROM pg_database"
    assert superuser(asked) == "C.UTF-8|UTF8"


def test_memory_is_that_of_the_hosts_size(host: Host, superuser: Superuser) -> None:
    kilobytes = int(host.check_output("awk '/^MemTotal:/ {print $2}' /proc/meminfo"))
    for name, value in postgresql_memory(kilobytes // 1024).items():
        same = superuser(
            f"SELECT pg_size_bytes(current_setting('{name}')) = pg_size_bytes('{value}')"
            if value.endswith("MB")
            else f"SELECT current_setting('{name}') = '{value}'"
        )
        assert same == "t", name


def test_configuration_that_would_not_start_is_refused_before_it_is_in_place(
    host: Host, server_name: str, unit: str, major: str, query: Query
) -> None:
    path = f"/etc/postgresql/{major}/main/conf.d/10-bedstone.conf"
    before = (main_pid(host, unit), host.check_output("sha256sum %s", path))
    said = refused(server_name, postgresql_settings={"work_mem": "plenty"})
    assert "PostgreSQL does not start with this configuration" in said
    assert 'invalid value for parameter "work_mem"' in said
    assert (main_pid(host, unit), host.check_output("sha256sum %s", path)) == before
    assert query("SELECT 1").rc == 0
    assert host.run("ls /var/tmp | grep bedstone").stdout == ""


@pytest.mark.usefixtures("restored")
def test_setting_counts_at_once_or_is_reported_as_waiting_and_drops_no_session(
    host: Host, server_name: str, unit: str, superuser: Superuser
) -> None:
    before = main_pid(host, unit)
    settings = {"work_mem": "7MB", "max_locks_per_transaction": 77}
    said = words(server_name, postgresql_settings=settings)
    assert superuser("SHOW work_mem") == "7MB"
    assert superuser("SHOW max_locks_per_transaction") == "64"
    assert "count only after a restart of PostgreSQL: max_locks_per_transaction" in said
    assert main_pid(host, unit) == before


@pytest.mark.usefixtures("restored")
def test_more_connections_come_with_a_restart(
    host: Host, server_name: str, unit: str, superuser: Superuser
) -> None:
    before = main_pid(host, unit)
    applied(server_name, postgresql_max_connections=60)
    assert superuser("SHOW max_connections") == "60"
    assert main_pid(host, unit) != before


def test_address_that_the_server_does_not_have_is_refused_before_it_is_declared(
    host: Host, server_name: str, unit: str, query: Query
) -> None:
    before = main_pid(host, unit)
    said = refused(server_name, postgresql_listen_addresses=["localhost", "203.0.113.9"])
    assert "this server has no address 203.0.113.9" in said
    assert query("SELECT 1").rc == 0
    assert main_pid(host, unit) == before
