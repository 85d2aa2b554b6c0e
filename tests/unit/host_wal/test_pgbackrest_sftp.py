"""How many files an SFTP server opens is counted by asking it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bedstone import pgbackrest_sftp
from bedstone.destinations import Destination
from bedstone.errors import BedstoneError
from bedstone.pgbackrest_errors import TooFewHandlesError, UnreachableError

OFFSITE = Destination("offsite", "sftp", 2, host="backup.example", user="bedstone", path="/srv/b")

# Speaks SFTP as OpenSSH's server does when it runs out of files: status 4, "Failure".
SERVER = """
import struct, sys
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
limit, given = int(sys.argv[1]), 0
def send(kind, payload):
    write(struct.pack(">IB", len(payload) + 1, kind) + payload)
    sys.stdout.buffer.flush()
while True:
    head = read(4)
    if not head:
        break
    packet = read(struct.unpack(">I", head)[0])
    if packet[0] == 1:
        assert struct.unpack(">I", packet[1:5]) == (3,)
        send(2, struct.pack(">I", 3) + b"\\0\\0\\0\\1x\\0\\0\\0\\0")
        continue
    assert packet[0] == 11
    identity, length = packet[1:5], struct.unpack(">I", packet[5:9])[0]
    assert packet[9:] == b"." and length == 1
    if given < limit:
        given += 1
        send(102, identity + struct.pack(">II", 4, given))
    else:
        send(101, identity + struct.pack(">I", 4) + b"\\0\\0\\0\\7Failure\\0\\0\\0\\0")
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


def command(server: Path, limit: int) -> list[str]:
    return [sys.executable, "-S", str(server), str(limit)]


@pytest.mark.parametrize(("limit", "wanted", "given"), [(1021, 5000, 1021), (5000, 1500, 1500)])
def test_handles_are_counted(server: Path, limit: int, wanted: int, given: int) -> None:
    assert pgbackrest_sftp.handles(command(server, limit), wanted) == given


def test_nothing_is_asked_for_nothing(server: Path) -> None:
    assert pgbackrest_sftp.handles(command(server, 10), 0) == 0


def test_enough_is_no_error(server: Path) -> None:
    pgbackrest_sftp.require(command(server, 100), OFFSITE, 100, "A restore")


def test_too_few_are_refused_with_the_lines_that_raise_them(server: Path) -> None:
    with pytest.raises(TooFewHandlesError) as refused:
        pgbackrest_sftp.require(command(server, 99), OFFSITE, 100, "A restore of this cluster")
    assert "backup.example lets one connection open only 99 files" in refused.value.message
    assert "A restore of this cluster holds up to 100 open" in refused.value.message
    assert "LimitNOFILE=65536" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "said",
    [
        "import sys; sys.exit('Host key verification failed.')",
        "print('This account is not available.')",
        "import sys; sys.stdin.buffer.read(5)",
    ],
)
def test_whatever_is_no_sftp_is_unreachable(said: str) -> None:
    with pytest.raises(UnreachableError) as failed:
        pgbackrest_sftp.require([sys.executable, "-S", "-c", said], OFFSITE, 10, "A restore")
    assert "offsite (sftp bedstone@backup.example:/srv/b) can't be reached" in failed.value.message


def test_words_of_ssh_are_passed_on() -> None:
    script = "import sys; sys.exit('Host key verification failed.')"
    with pytest.raises(BedstoneError, match="Host key verification failed"):
        pgbackrest_sftp.handles([sys.executable, "-S", "-c", script], 10)


def test_ssh_trusts_nothing_but_the_given_keys() -> None:
    argv = pgbackrest_sftp.ssh(OFFSITE, "/keys")
    assert argv[-3:] == ["-s", "bedstone@backup.example", "sftp"]
    for option in ("StrictHostKeyChecking=yes", "UserKnownHostsFile=/keys/known_hosts"):
        assert option in argv
    assert "GlobalKnownHostsFile=/dev/null" in argv


def test_server_that_stops_answering_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgbackrest_sftp, "SECONDS", 0.2)
    silent = tmp_path / "silent.py"
    silent.write_text("import time\nwhile True:\n    time.sleep(60)\n")
    with pytest.raises(UnreachableError, match="has not answered for 0 seconds"):
        pgbackrest_sftp.require(command(silent, 0), OFFSITE, 5, "A restore")
