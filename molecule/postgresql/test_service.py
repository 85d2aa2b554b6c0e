"""The server comes back by itself: after a crash, after a reboot; and gets its checksums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from again import applied, apply
from testinfra.host import Host

UNITS = ["postgresql@*"]
Query = Callable[..., Any]
LATE_ADDRESS = "192.0.2.1"


def words(server: str, **arguments: Any) -> str:
    """Apply the role and return all that it printed, warnings included, on one line."""
    run = apply(server, **arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    return " ".join(f"{run.stdout} {run.stderr}".split())


def listens(host: Host) -> set[str]:
    shown = host.check_output("ss --listening --tcp --numeric --no-header 'sport = 5432'")
    return {line.split()[3].rpartition(":")[0] for line in shown.splitlines()}


def test_server_listens_on_the_declared_addresses_only(host: Host, address: str) -> None:
    assert listens(host) - {"[::1]"} == {"127.0.0.1", address, LATE_ADDRESS}


def test_killed_server_is_started_again(
    host: Host, unit: str, query: Query, wait_until: Callable[..., None]
) -> None:
    host.check_output("systemctl kill --kill-whom=main --signal=KILL %s", unit)
    wait_until(lambda: query("SELECT 1").rc == 0, seconds=180, what="PostgreSQL is back")


def test_after_a_reboot_it_listens_on_the_address_that_comes_late(
    host: Host,
    server_name: str,
    address: str,
    query: Query,
    reboot: Callable[[Host, str], None],
    wait_until: Callable[..., None],
) -> None:
    reboot(host, server_name)
    wait_until(lambda: query("SELECT 1").rc == 0, seconds=180, what="PostgreSQL is up")
    assert listens(host) - {"[::1]"} == {"127.0.0.1", address, LATE_ADDRESS}
    assert "changed=0 " in applied(server_name)


def test_cluster_without_checksums_is_reported_and_gets_them_on_request(
    host: Host, server_name: str, unit: str, major: str, superuser: Callable[..., str]
) -> None:
    host.check_output("systemctl stop %s", unit)
    host.check_output(
        "cd /; runuser -u postgres -- /usr/lib/postgresql/%s/bin/pg_checksums --disable "
        "--pgdata=/var/lib/postgresql/%s/main",
        major,
        major,
    )
    host.check_output("systemctl start %s", unit)
    said = words(server_name)
    assert "This cluster has no data checksums" in said
    assert "changed=0 " in said
    assert superuser("SHOW data_checksums") == "off"

    applied(server_name, postgresql_enable_data_checksums=True)
    assert superuser("SHOW data_checksums") == "on"
    again = words(server_name, postgresql_enable_data_checksums=True)
    assert "changed=0 " in again
    assert "no data checksums" not in again
