"""Replace the serving data by the restored data in one swap."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bedstone.core import files
from bedstone.core.errors import BedstoneError
from bedstone.postgres.server import MAINTENANCE, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bedstone.postgres.server import Server

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_INTERRUPT_SECONDS = 5.0

# Ends the sessions of a database for as long as the renaming may wait for them (five
# seconds, by PostgreSQL's own rule), and a little longer.
_TERMINATE = """
DO $$
BEGIN
  FOR attempt IN 1..140 LOOP
    EXIT WHEN NOT EXISTS (SELECT FROM pg_database WHERE oid = {oid} AND datname = {name});
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid = {oid};
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
"""


def database(server: Server, name: str, side: str, old: str) -> None:
    """Rename ``name`` to ``old`` and ``side`` to ``name``, both or neither.

    The renaming locks the database, so that no new session starts, while its sessions are ended
    from another connection. A client that connects in this moment waits, and then has to connect
    once more.

    Raises:
        PostgresError: a session could not be ended; everything is as it was.

    """
    with _sessions_ended(server, name):
        server.execute(
            "BEGIN;"
            f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(old)};"
            f"ALTER DATABASE {identifier(side)} RENAME TO {identifier(name)};"
            "COMMIT;"
        )


def new_database(server: Server, name: str, side: str) -> None:
    """Give a restored database its name on a server that has none of this name."""
    server.execute(f"ALTER DATABASE {identifier(side)} RENAME TO {identifier(name)};")


def directory(path: Path, side: Path, old: Path) -> None:
    """Replace the directory ``path`` by ``side``, and keep it as ``old``."""
    if not path.exists():
        side.rename(path)
    else:
        _exchange(path, side)
        side.rename(old)
    files.sync_directory(path.parent)


@contextmanager
def _sessions_ended(server: Server, name: str) -> Iterator[None]:
    # By its identity, which the renaming leaves as it is: a session that comes back to
    # the new database is not meant.
    statement = _TERMINATE.format(name=literal(name), oid=server.oid(name))
    terminator = subprocess.Popen(
        server.psql(MAINTENANCE),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **server.environment()},
        cwd="/",
        text=True,
    )
    try:
        stdin = terminator.stdin
        assert stdin is not None
        with stdin:
            stdin.write(statement)
        yield
    except BrokenPipeError as error:
        raise BedstoneError("PostgreSQL doesn't answer on this server.") from error
    finally:
        # psql passes an interrupt on to the server, where a kill would leave the loop running.
        terminator.send_signal(signal.SIGINT)
        try:
            terminator.wait(_INTERRUPT_SECONDS)
        except subprocess.TimeoutExpired:
            terminator.kill()
            terminator.wait()


def _exchange(one: Path, other: Path) -> None:
    """Exchange two directories atomically (renameat2(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    ):
        number = ctypes.get_errno()
        if number not in {errno.EINVAL, errno.ENOSYS}:
            raise OSError(number, os.strerror(number), str(one))
        # A file system without it: a moment with nothing in place can't be avoided.
        spare = one.with_name(f".exchange_{one.name}")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)
