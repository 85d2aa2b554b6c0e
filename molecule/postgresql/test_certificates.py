"""A certificate is renewed without dropping anybody, and a broken one is noticed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from again import applied, refused
from testinfra.host import Host
from units import Journal

UNITS = ["postgresql@*"]
Query = Callable[..., Any]
Issue = Callable[..., tuple[str, str]]
Place = Callable[[str, str], None]


class Session:
    """A session of the app that stays open; psql reads what is appended to a file."""

    def __init__(self, peer: Host, connection: str, password: str) -> None:
        self.peer = peer
        peer.check_output("rm -f /root/session.*; touch /root/session.in")
        peer.check_output(
            "PGPASSWORD=%s setsid sh -c %s >/dev/null 2>&1 </dev/null & echo $! >/root/session.pid",
            password,
            "tail -f /root/session.in | psql -XAtq "
            f'"{connection}" > /root/session.out 2>/root/session.err',
        )

    def ask(self, sql: str, wait_until: Callable[..., None]) -> str:
        before = len(self.peer.check_output("cat /root/session.out").splitlines())
        self.peer.check_output("echo %s >> /root/session.in", f"{sql};")

        def lines() -> list[str]:
            return list(self.peer.check_output("cat /root/session.out").splitlines())

        wait_until(lambda: len(lines()) > before, what=f"an answer to {sql}")
        return lines()[-1]

    def close(self) -> None:
        self.peer.run("kill -- -$(ps -o pgid= $(cat /root/session.pid) | tr -d ' ')")


@pytest.fixture
def session(
    peer: Host, connection: Callable[..., str], passwords: dict[str, str]
) -> Iterator[Session]:
    opened = Session(peer, connection(), passwords["payments_app"])
    yield opened
    opened.close()


def serial_of(host: Host) -> str:
    return str(
        host.check_output("openssl x509 -noout -serial -in /etc/bedstone/tls/postgresql.crt")
    )


def test_renewed_certificate_is_served_and_open_sessions_go_on(
    host: Host,
    server_name: str,
    unit: str,
    issue: Issue,
    place: Place,
    session: Session,
    query: Query,
    served_serial: Callable[[], str],
    wait_until: Callable[..., None],
) -> None:
    pid = session.ask("SELECT pg_backend_pid()", wait_until)
    before = served_serial()
    certificate, key = issue(server_name, server_name, "localhost")
    place("postgresql.key", key)
    place("postgresql.crt", certificate)
    host.check_output("systemctl reload %s", unit)
    assert served_serial() == serial_of(host) != before
    assert session.ask("SELECT pg_backend_pid()", wait_until) == pid
    assert query("SELECT 1").rc == 0


def test_key_of_another_certificate_fails_the_reload_and_changes_nothing(
    host: Host,
    server_name: str,
    unit: str,
    issue: Issue,
    place: Place,
    query: Query,
    served_serial: Callable[[], str],
) -> None:
    good = host.check_output("cat /etc/bedstone/tls/postgresql.key")
    before = served_serial()
    certificate, key = issue(server_name, server_name, "localhost")
    place("postgresql.crt", certificate)
    try:
        journal = Journal(host, unit)
        reload = host.run("systemctl reload %s", unit)
        assert reload.rc != 0
        journal.says("/etc/bedstone/tls/postgresql.key doesn't belong to the certificate")
        # It serves on as before, and the role says what is wrong although nothing else changed.
        assert served_serial() == before
        assert query("SELECT 1").rc == 0
        said = refused(server_name)
        assert "serves another certificate" in said
    finally:
        place("postgresql.key", key)
    assert good != key
    host.check_output("systemctl reload %s", unit)
    assert served_serial() == serial_of(host) != before
    applied(server_name)


def test_certificate_that_was_never_loaded_is_noticed_by_the_next_run(
    host: Host, server_name: str, unit: str, issue: Issue, place: Place
) -> None:
    certificate, key = issue(server_name, server_name, "localhost")
    place("postgresql.key", key)
    place("postgresql.crt", certificate)
    assert "serves another certificate" in refused(server_name)
    host.check_output("systemctl reload %s", unit)
    applied(server_name)


def test_server_can_be_restarted_after_all_of_it(
    host: Host, unit: str, query: Query, served_serial: Callable[[], str]
) -> None:
    host.check_output("systemctl restart %s", unit)
    assert query("SELECT 1").rc == 0
    assert served_serial() == serial_of(host)


def test_private_key_is_closed_to_others(host: Host) -> None:
    assert host.run("runuser -u nobody -- cat /etc/bedstone/tls/postgresql.key").rc != 0
