"""Whether a destination can be reached, and a program that stands still."""

from __future__ import annotations

import socket
import ssl
import sys
from typing import TYPE_CHECKING

import pytest

from bedstone.core import followed
from bedstone.core.errors import CommandError
from bedstone.core.process import Completed
from bedstone.storage import reachability
from bedstone.storage.destinations import Destination
from bedstone.storage.reachability import ReachError

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = sys.executable


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

    monkeypatch.setattr(reachability, "_context", Context)
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


# --- Programs that take long ------------------------------------------------------------------


def test_a_program_ends_with_what_it_said() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"

    assert followed.run([PYTHON, "-c", script]) == followed.Ended(3, "out\n", "err\n")


def test_a_program_that_says_the_same_again_and_again_stands_still() -> None:
    script = "import time\nwhile True: print('same', flush=True); time.sleep(0.01)"

    with pytest.raises(followed.TooLongError, match="has not got on"):
        followed.run([PYTHON, "-c", script], still_seconds=0.5)


def test_a_program_that_gets_on_is_left_alone() -> None:
    script = "import time\nfor i in range(15): print(i, flush=True); time.sleep(0.1)"

    ended = followed.run([PYTHON, "-c", script], still_seconds=1)

    assert ended.returncode == 0


def test_a_program_has_a_limit_of_its_own() -> None:
    with pytest.raises(followed.TooLongError, match="took too long"):
        followed.run([PYTHON, "-c", "import time; time.sleep(600)"], seconds=0.3)


def test_what_a_watch_raises_ends_the_program() -> None:
    def watch() -> None:
        raise CommandError("stop", returncode=None, output="")

    with pytest.raises(CommandError, match="stop"):
        followed.run([PYTHON, "-c", "import time; time.sleep(600)"], watch=watch)


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(CommandError, match="can't be started"):
        followed.run(["bedstone-no-such-program"])
