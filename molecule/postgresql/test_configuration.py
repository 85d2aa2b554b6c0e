"""What the server runs with, and that a bad configuration never gets in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from again import applied, refused
from testinfra.host import Host

from plugins.filter.postgresql import postgresql_memory

UNITS = ["postgresql@*"]
Query = Callable[..., Any]
Superuser = Callable[..., str]


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"work_mem": "plenty"}, 'invalid value for parameter "work_mem"'),
        ({"no_such_setting": 1}, 'unrecognized configuration parameter "no_such_setting"'),
        ({"shared_preload_libraries": "no_such_library"}, "no_such_library"),
    ],
    ids=["value", "name", "library"],
)
def test_configuration_that_would_not_start_is_refused_before_it_is_in_place(
    host: Host,
    server_name: str,
    unit: str,
    major: str,
    query: Query,
    settings: dict[str, Any],
    message: str,
) -> None:
    path = f"/etc/postgresql/{major}/main/conf.d/10-bedstone.conf"
    before = (main_pid(host, unit), host.check_output("sha256sum %s", path))
    said = refused(server_name, postgresql_settings=settings)
    assert message in said
    assert "PostgreSQL does not start with this configuration" in said
    assert (main_pid(host, unit), host.check_output("sha256sum %s", path)) == before
    assert query("SELECT 1").rc == 0
    assert host.run("ls /var/tmp | grep bedstone").stdout == ""


def test_setting_counts_after_a_reload_and_drops_no_session(
    host: Host, server_name: str, unit: str, superuser: Superuser
) -> None:
    before = main_pid(host, unit)
    applied(server_name, postgresql_settings={"work_mem": "7MB"})
    assert superuser("SHOW work_mem") == "7MB"
    applied(server_name)
    assert superuser("SHOW work_mem") != "7MB"
    assert main_pid(host, unit) == before


def test_setting_that_waits_for_a_restart_is_reported(
    server_name: str, superuser: Superuser
) -> None:
    said = applied(server_name, postgresql_settings={"max_locks_per_transaction": 77})
    assert "count only after a restart of PostgreSQL: max_locks_per_transaction" in " ".join(
        said.split()
    )
    assert superuser("SHOW max_locks_per_transaction") == "64"
    applied(server_name)


def test_more_connections_come_with_a_restart(
    host: Host, server_name: str, unit: str, superuser: Superuser
) -> None:
    before = main_pid(host, unit)
    applied(server_name, postgresql_max_connections=60)
    assert superuser("SHOW max_connections") == "60"
    assert main_pid(host, unit) != before
    applied(server_name)


def test_address_that_nobody_has_is_told(server_name: str, query: Query) -> None:
    said = refused(server_name, postgresql_listen_addresses=["localhost", "203.0.113.9"])
    assert "doesn't answer on 203.0.113.9 port 5432" in said
    applied(server_name)
    assert query("SELECT 1").rc == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"postgresql_allowed_networks": ["0.0.0.0/0"]}, "0.0.0.0/0 is everybody"),
        ({"postgresql_memory_share_percent": 400}, "use 10 to 100"),
    ],
    ids=["everybody", "memory"],
)
def test_argument_that_makes_no_sense_is_refused(
    server_name: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in refused(server_name, **arguments)
