"""Rename databases."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError
from bedstone.core.process import end
from bedstone.postgres.server import MAINTENANCE, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone.postgres.server import Server

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


def swap(server: Server, name: str, side: str, old: str) -> None:
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


def rename(server: Server, name: str, side: str) -> None:
    """Give the database ``side`` the name ``name``, which no other has."""
    server.execute(f"ALTER DATABASE {identifier(side)} RENAME TO {identifier(name)};")


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
        start_new_session=True,
    )
    try:
        stdin = terminator.stdin
        assert stdin is not None
        with stdin:
            stdin.write(statement.encode())
        yield
    except BrokenPipeError as error:
        raise BedstoneError("PostgreSQL doesn't answer on this server.") from error
    finally:
        # psql passes an interrupt on to the server, where a kill would leave the loop running.
        end(terminator, signal.SIGINT)
