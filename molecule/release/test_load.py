"""Visitors don't notice an operation: no request fails, no acknowledged row is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from again import played
from ledger_app import Ledger, Load, said_at
from testinfra.host import Host

UNITS = ["bedstone-ledger-*", "bedstone-operation@ledger", "nginx.service"]


def test_restart(ledger: Ledger) -> None:
    before, release = ledger.answer(), ledger.status()["release"]
    with ledger.load(seconds=10) as load:
        restarted = ledger.bedstone("restart ledger")
        # The slot's sessions with PostgreSQL stay open: they are no requests.
        assert "still open" not in said_at(restarted, "drain")
        ledger.wait_until(lambda: ledger.answer()["host"] != before["host"])
    ledger.check_nothing_lost(load)
    assert load.versions == {before["version"]}
    assert (len(load.containers()), len(load.containers("api"))) == (2, 4)
    assert ledger.status()["release"] == release


@contextmanager
def nothing_changes(ledger: Ledger) -> Iterator[Load]:
    """Assert that a block's failed release, under load, leaves all as it was."""
    before, release = ledger.answer(), ledger.status()["release"]
    workers = ledger.workers()
    with ledger.load() as load:
        yield load
    ledger.check_nothing_lost(load)
    assert ledger.answer() == before
    assert ledger.get("/api/")["version"] == before["version"]
    assert (ledger.workers(), ledger.status()["release"]) == (workers, release)
    assert ledger.status()["ok"]


@pytest.mark.parametrize(
    ("behaviour", "step"), [("never_healthy", "start"), ("worker_dies", "workers")]
)
def test_failed_release(ledger: Ledger, behaviour: str, step: str) -> None:
    before = ledger.answer()["version"]
    with nothing_changes(ledger) as load:
        version = ledger.source("bad", (), [behaviour])
        failed = ledger.fails("release ledger")
    assert failed["failed_step"] == step
    # Requests that the bad release answered before its worker failed were answered well.
    assert load.versions <= {before, version}
    assert (step == "workers") == (version in load.versions)


def test_broken_file_of_nginx(host: Host, ledger: Ledger) -> None:
    """An operator has edited nginx's files by hand, and not tested them."""
    broken = "/etc/nginx/conf.d/by-hand.conf"
    with nothing_changes(ledger):
        host.check_output("echo 'server { listen 8080; no_such_word; }' > %s", broken)
        version = ledger.source()
        try:
            failed = ledger.fails("release ledger")
        finally:
            host.check_output("rm %s", broken)
    assert failed["failed_step"] == "switch"
    assert "no_such_word" in f"{failed['error']}{failed['details']}"
    assert "by-hand.conf" in f"{failed['error']}{failed['details']}"
    assert "failed at switch" in host.run("bedstone status").stdout
    ledger.release()
    assert ledger.answer()["version"] == version


def test_another_certificate(
    host: Host, ledger: Ledger, server_name: str, wait_until: Callable[..., None]
) -> None:
    """The certificate goes; a run of the role makes another one and nginx takes it.

    A reload closes connections that are idle just then: RFC 9112, 9.6.
    """
    before = served_certificate(host)
    with ledger.load(seconds=10, kept=0) as load:
        host.check_output("rm /etc/bedstone/tls/ledger.crt")
        played("provision", server_name, "--tags", "ca,nginx")
        wait_until(lambda: served_certificate(host) != before, what="the other is served")
    ledger.check_nothing_lost(load)
    assert len(load.versions) == 1


def served_certificate(host: Host) -> str:
    """Return the serial number of the certificate that visitors get."""
    return str(
        host.check_output(
            "openssl s_client -connect 127.0.0.1:443 -servername ledger.localhost"
            " < /dev/null 2> /dev/null | openssl x509 -noout -serial"
        )
    )
