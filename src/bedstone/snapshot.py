"""A moment of a database, held open: the dump and the row counts see the same one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING, Self

from bedstone import postgres
from bedstone.postgres import literal

if TYPE_CHECKING:
    from types import TracebackType

    from bedstone.postgres import Server

_END = "-- end of answer --"

# A limit that an administrator has set for applications must not end a backup
# half way. The settings differ by version, so only those that exist are reset.
_NO_LIMITS = """
SELECT count(set_config(name, '0', false)) FROM pg_settings
 WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                'idle_in_transaction_session_timeout', 'idle_session_timeout');
"""

# Every table whose rows a dump holds: no partitioned parents (they have none), no
# views, no tables that belong to an extension (those come with the extension).
# ONLY, so that inherited rows count once.
COUNTS = r"""
SELECT format('SELECT json_build_array(%L, count(*)) FROM ONLY %I.%I;',
              n.nspname || '.' || c.relname, n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname
\gexec
"""


class Snapshot:
    """A read-only transaction whose view of the database others can share.

    Use it as a context manager; ``id`` is what ``pg_dump --snapshot`` takes.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self.id = ""

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._server.psql(self._database),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **self._server.environment()},
            cwd="/",
            text=True,
        )
        try:
            self.begin(_NO_LIMITS)
            self.answer()
            self.begin(
                "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n"
                "SELECT pg_export_snapshot();"
            )
            self.id = self.answer()[0]
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def begin(self, sql: str) -> None:
        """Send SQL without waiting for what it says."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{sql}\n\\echo {literal(_END)}\n")
            stdin.flush()
        except BrokenPipeError:
            # psql has ended; answer() tells why.
            return

    def answer(self) -> list[str]:
        """Return the lines that the SQL sent last has printed, when it is through.

        Raises:
            PostgresError: it failed, or the connection is gone.

        """
        stdout = self._process.stdout
        assert stdout is not None
        lines: list[str] = []
        for line in stdout:
            if line.rstrip("\n") == _END:
                return lines
            lines.append(line.rstrip("\n"))
        self._process.wait()
        self._errors.seek(0)
        raise postgres.explained(self._errors.read().decode("utf-8", "replace"))

    def _close(self) -> None:
        process = self._process
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._errors.close()
