"""Hold a snapshot of a database open, for a dump and its row counts to see the same data."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from bedstone.core.errors import RefusedError
from bedstone.postgres import server as postgres
from bedstone.postgres.server import PostgresError, identifier, literal

if TYPE_CHECKING:
    from types import TracebackType

    from bedstone.postgres.server import Server

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


# Logs in as the system user postgres, like bedstone_restore (pg_hba.conf of role postgresql). To
# plan a query, PostgreSQL runs functions of the app that an index's expression calls with
# constants: no query of an app's table is the superuser's.
READER = "bedstone_reader"
# Of pg_ident.conf: which roles the system user postgres may be.
MAP = "bedstone_restore"
_READER_ATTRIBUTES = (
    "LOGIN INHERIT BYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD NULL"
)
_READER_GROUPS = ("pg_read_all_data", "pg_stat_scan_tables")
_READER_IS_READY = f"""
SELECT to_json(r.rolcanlogin AND r.rolinherit AND r.rolbypassrls AND r.rolconfig IS NULL
    AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
    AND (SELECT array_agg(g.rolname::text ORDER BY g.rolname) FROM pg_auth_members m
           JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)
        = ARRAY['{"','".join(_READER_GROUPS)}']
    AND has_database_privilege(r.oid, current_database(), 'CONNECT'))
  FROM pg_roles r WHERE r.rolname = '{READER}';
"""  # noqa: S608 - our own names


def reader(server: Server, database: str) -> Server:
    """Return the server as the role that reads every table of a database and can do no more.

    Raises:
        PostgresError: the role can't be made.
        RefusedError: authentication failed.

    """
    if server.rows(_READER_IS_READY, database) != [True]:
        role = identifier(READER)
        create = "" if READER in server.roles() else f"CREATE ROLE {role};"
        server.execute(
            f"{create} ALTER ROLE {role} {_READER_ATTRIBUTES}; ALTER ROLE {role} RESET ALL;"
            f" GRANT {', '.join(_READER_GROUPS)} TO {role};"
            f" GRANT CONNECT ON DATABASE {identifier(database)} TO {role};"
        )
    found = replace(server, role=READER)
    try:
        found.execute("SELECT 1;", database)
    except PostgresError as error:
        raise RefusedError(
            f"PostgreSQL doesn't let the role {READER} in, which counts an app's rows so that no"
            " function of the app runs with the superuser's rights.",
            hint="Run the playbook `provision.yml`, whose role `postgresql` lets it in.",
            details=error.details,
        ) from error
    return found


class Snapshot:
    """A read-only transaction whose view of the database others can share.

    Use it as a context manager; ``id`` is what ``pg_dump --snapshot`` takes.
    """

    def __init__(self, server: Server, database: str, shared: str | None = None) -> None:
        """Prepare it.

        Args:
            server: where, and as which role.
            database: its name.
            shared: ``id`` of another one, to see the same moment.

        """
        self._server = server
        self._database = database
        self._shared = shared
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
            share = "SELECT pg_export_snapshot();"
            if self._shared is not None:
                share = f"SET TRANSACTION SNAPSHOT {literal(self._shared)};"
            self.begin(f"BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n{share}")
            self.id = self._shared or self.answer()[0]
            if self._shared is not None:
                self.answer()
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
            # psql has ended; answer() reports why.
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
