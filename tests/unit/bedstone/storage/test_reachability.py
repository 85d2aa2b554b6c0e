"""Whether a destination can be reached."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from bedstone.core.process import Completed
from bedstone.storage import reachability
from bedstone.storage.destinations import Destination
from bedstone.storage.reachability import ReachError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def sftp(port: int) -> Destination:
    return Destination("offsite", "sftp", host="127.0.0.1", port=port, user="b", path="/srv")


def test_a_server_that_listens_is_reached(listener: int) -> None:
    reachability.require(sftp(listener))


def test_a_closed_port_is_told_at_once(listener: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    assert closed != listener

    with pytest.raises(ReachError, match="can't be reached") as raised:
        reachability.require(sftp(closed))

    assert raised.value.reason == reachability.UNREACHABLE


def test_this_server_is_always_reached() -> None:
    reachability.require(Destination("local", "local"))


def test_a_certificate_that_is_not_trusted_is_told(
    listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context:
        """Trusts no server."""

        def wrap_socket(self, *_: object, **__: object) -> None:
            error = ssl.SSLCertVerificationError()
            error.verify_message = "unable to get local issuer certificate"
            raise error

    monkeypatch.setattr(reachability, "context", Context)
    place = Destination("bucket", "s3", endpoint=f"127.0.0.1:{listener}", bucket="b")

    with pytest.raises(ReachError, match="unable to get local issuer") as raised:
        reachability.require(place)

    assert "bedstone_extra_ca_certificates" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Host key verification failed.", reachability.HOST_KEY),
        ("No ED25519 host key is known for x and you have requested strict", reachability.HOST_KEY),
        ("b@x: Permission denied (publickey).", reachability.REFUSED),
        ("ssh: connect to host x port 22: Connection refused", reachability.UNREACHABLE),
    ],
)
def test_what_ssh_says_is_understood(
    monkeypatch: pytest.MonkeyPatch, said: str, reason: str
) -> None:
    monkeypatch.setattr(
        reachability, "run", lambda argv, **_: Completed(tuple(argv), 255, "", said, 0.1)
    )

    found = reachability.ssh_problem(sftp(22))

    assert found is not None
    assert found.reason == reason


def test_an_ssh_that_works_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reachability, "run", lambda argv, **_: Completed(tuple(argv), 0, "", "", 0.1)
    )

    assert reachability.ssh_problem(sftp(22)) is None
