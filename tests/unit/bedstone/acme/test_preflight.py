"""The challenge's path is tested as the authority will, and a failure is said in plain words."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest

from bedstone.acme import preflight

Fetch = Callable[[str, str, str], str]


def served(root: Path) -> Fetch:
    return lambda _address, _domain, path: (
        root / f"{preflight.WEBROOT.strip('/')}{path}"
    ).read_text()


def raising(error: Exception) -> Fetch:
    def fetch(_address: str, _domain: str, _path: str) -> str:
        raise error

    return fetch


def look(fetch: Fetch, *addresses: str) -> list[str]:
    return preflight.problems(["pay.example.com"], lambda _name: list(addresses), fetch)


def test_domain_that_leads_here_is_no_problem_and_no_file_stays(root: Path) -> None:
    assert look(served(root), "203.0.113.7") == []
    assert not list((root / "var/www/bedstone-acme").rglob("preflight-*"))


@pytest.mark.parametrize(
    ("fetch", "words"),
    [
        (raising(TimeoutError()), "can't be fetched: no answer in 6 seconds"),
        (raising(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (raising(HTTPException("the answer is 404 Not Found")), "the answer is 404 Not Found"),
        (lambda *_: "Welcome to another server", "is answered by something else"),
    ],
)
def test_reason_names_address_server_and_url(fetch: Fetch, words: str) -> None:
    (problem,) = look(fetch, "198.51.100.9")
    assert "pay.example.com resolves to 198.51.100.9, this server is " in problem
    assert "http://pay.example.com/.well-known/acme-challenge/" in problem
    assert words in problem


def test_name_without_an_address_is_said() -> None:
    def resolve(_name: str) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    (problem,) = preflight.problems(["pay.example.com"], resolve, raising(OSError()))
    assert problem.startswith("pay.example.com has no address in DNS (Name or service not known)")


def test_every_address_of_a_name_has_to_lead_here(root: Path) -> None:
    own = served(root)

    def fetch(address: str, domain: str, path: str) -> str:
        return own(address, domain, path) if address == "203.0.113.7" else "another"

    assert len(look(fetch, "203.0.113.7", "198.51.100.9")) == 1


def test_ipv6_that_is_unreachable_is_left_to_the_authority(root: Path) -> None:
    own = served(root)

    def fetch(address: str, domain: str, path: str) -> str:
        if ":" in address:
            raise OSError(101, "Network is unreachable")
        return own(address, domain, path)

    assert look(fetch, "203.0.113.7", "2001:db8::7") == []
    assert len(look(fetch, "2001:db8::7")) == 1


def test_own_hosts_file_proves_nothing() -> None:
    assert look(raising(AssertionError()), "127.0.1.1") == []
