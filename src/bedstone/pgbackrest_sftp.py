"""Asks an SFTP server how many files it really opens at a time on one connection.

Speaks SFTP version 3 (draft-ietf-secsh-filexfer-02) through `ssh -s HOST sftp`, just enough to
open the same directory again and again: nothing is written. The server's limit is that of its
process (``LimitNOFILE``, ``ulimit -n``), which nothing else tells from outside.
"""

from __future__ import annotations

import select
import struct
import subprocess
from typing import IO, TYPE_CHECKING

from bedstone.errors import BedstoneError
from bedstone.pgbackrest_errors import TooFewHandlesError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.destinations import Destination

VERSION = 3
# More than any restore that fits this host needs; asking for each costs a round trip's share.
MOST = 200_000
# A server that lets us in, and whose disk then hangs, never answers; ssh is content with that.
SECONDS = 60.0

_INIT, _VERSION, _OPENDIR, _STATUS, _HANDLE = 1, 2, 11, 101, 102
# So many requests are on their way at a time: fewer than any pipe's buffer holds.
_AHEAD = 64
_LARGEST_PACKET = 256 * 1024


def handles(command: Sequence[str], wanted: int, directory: str = ".") -> int:
    """Return how many of ``wanted`` handles the server gives.

    Args:
        command: runs the SFTP subsystem, its protocol on standard input and output.
        wanted: how many to ask for; it stops at the first that is refused.
        directory: on the server; it has to exist.

    Raises:
        BedstoneError: no connection, or not SFTP that comes back.

    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What was read is all that select() must know of.
        bufsize=0,
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        try:
            return _count(process.stdin, process.stdout, min(wanted, MOST), directory)
        except (EOFError, OSError, struct.error) as error:
            process.kill()
            _, said = process.communicate()
            text = said.decode(errors="replace").strip()
            raise BedstoneError(
                f"The SFTP server broke off: {text or error}.", details=text
            ) from error
        finally:
            process.kill()


def _count(out: IO[bytes], answers: IO[bytes], wanted: int, directory: str) -> int:
    _send(out, _INIT, struct.pack(">I", VERSION))
    if _receive(answers)[0] != _VERSION:
        raise EOFError("it doesn't speak SFTP")
    path = directory.encode()
    given = asked = answered = 0
    while answered < wanted:
        while asked < wanted and asked - answered < _AHEAD:
            asked += 1
            _send(out, _OPENDIR, struct.pack(">II", asked, len(path)) + path)
        kind, _ = _receive(answers)
        answered += 1
        if kind == _STATUS:
            return given
        given += kind == _HANDLE
    return given


def _send(out: IO[bytes], kind: int, payload: bytes) -> None:
    out.write(struct.pack(">IB", len(payload) + 1, kind) + payload)
    out.flush()


def _receive(answers: IO[bytes]) -> tuple[int, bytes]:
    (length,) = struct.unpack(">I", _exactly(answers, 4))
    if not 0 < length <= _LARGEST_PACKET:
        raise EOFError("it doesn't speak SFTP")
    packet = _exactly(answers, length)
    return packet[0], packet[1:]


def _exactly(answers: IO[bytes], length: int) -> bytes:
    data = b""
    while len(data) < length:
        if not select.select([answers], [], [], SECONDS)[0]:
            raise TimeoutError(f"it has not answered for {SECONDS:.0f} seconds")
        part = answers.read(length - len(data))
        if not part:
            raise EOFError("the connection was closed")
        data += part
    return data


def ssh(destination: Destination, secrets: str) -> list[str]:
    """Return the command that speaks SFTP with a destination.

    Args:
        destination: where.
        secrets: directory of its ``id`` and ``known_hosts``.

    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f"{secrets}/known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "LogLevel": "ERROR",
    }
    command = ["ssh", "-F", "none", "-T", "-p", str(destination.port), "-i", f"{secrets}/id"]
    command += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return [*command, "-s", f"{destination.user}@{destination.host}", "sftp"]


def require(command: Sequence[str], destination: Destination, needed: int, what: str) -> None:
    """Refuse unless the server opens as many files as a restore needs.

    Args:
        command: see :func:`handles`.
        destination: the server, for the message.
        needed: how many.
        what: what would need them ("A restore of this cluster").

    Raises:
        TooFewHandlesError: it gives fewer; says how to raise its limit.
        UnreachableError: it doesn't answer.

    """
    try:
        given = handles(command, needed)
    except BedstoneError as error:
        raise UnreachableError(
            f"{destination.name} ({destination.words()}) can't be reached: {error.message}",
            hint="Check its host, port, user, `host_keys` and key in the settings and the vault.",
            details=error.details,
        ) from error
    if given < needed:
        raise TooFewHandlesError(
            f"The SFTP server {destination.host} lets one connection open only {given} files at a"
            f" time. {what} holds up to {needed} open, and would fail in the middle; backups would"
            " go on and look well.",
            hint="Raise the limit on it: `systemctl edit ssh.service` with the lines `[Service]`"
            " and `LimitNOFILE=65536`, then `systemctl restart ssh`. Where nobody can do that, set"
            f" `wal: false` for {destination.name} (dumps go there all the same) or take an S3"
            " destination.",
        )
