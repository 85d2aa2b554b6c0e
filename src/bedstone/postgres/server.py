"""Reach the local PostgreSQL server as its superuser, by peer authentication.

No password is involved: the programs run as the system's user ``postgres``, and
SQL goes in by standard input. They end with bedstone (``--pdeathsig``), so that a
killed backup leaves nothing running that writes on.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.core import paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run
from bedstone.postgres.programs import HOME, client, psql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.core.process import Completed

USER = "postgres"
MAINTENANCE = "postgres"

# The owner of a database sets for all of its sessions, the superuser's as well, what ALTER DATABASE
# ... SET can set. Options of the connection come before that.
SETTINGS = " ".join(
    f"-c {setting}"
    for setting in (
        "role=none",
        "default_transaction_read_only=off",
        "standard_conforming_strings=on",
        "statement_timeout=0",
        "lock_timeout=0",
        "idle_in_transaction_session_timeout=0",
    )
)
# Without a search path no name that stands alone finds a function, table or operator of the app.
OPTIONS = f"-c search_path= {SETTINGS}"


class PostgresError(BedstoneError):
    """PostgreSQL isn't reachable, or refused a statement."""


@dataclass(frozen=True)
class Server:
    """The PostgreSQL server on this host.

    Attributes:
        socket: directory of its socket.
        port: its port.
        account: the system's user that its programs run as, whom it takes for the superuser.
        role: whom they are there.
        options: of each session; for the superuser always :data:`OPTIONS`.

    """

    socket: str
    port: int
    account: str = USER
    role: str = USER
    options: str = OPTIONS

    def command(self, program: str, *arguments: str, read_everything: bool = False) -> list[str]:
        """Return the argument list that runs a PostgreSQL program as the superuser.

        Args:
            program: ``psql``, ``pg_dump``, or a path.
            arguments: of the program, without those for the connection.
            read_everything: let it read files that only root can read (a backup).

        """
        prefix = []
        if os.geteuid() == 0:
            prefix = [
                "setpriv", "--reuid", self.account, "--regid", self.account, "--init-groups",
                "--pdeathsig", "KILL",
            ]  # fmt: skip
            if read_everything:
                capability = "+dac_read_search"
                prefix += ["--inh-caps", capability, "--ambient-caps", capability]
                # access(2) disregards capabilities of any user but root unless told so, and
                # pg_restore (16 and newer) asks it whether a compressed file is there. Where
                # the answer is no, it takes the compressed bytes for rows.
                prefix += ["--securebits", "+no_setuid_fixup"]
            prefix.append("--")
        return [*prefix, program, *arguments]

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a PostgreSQL program to this server."""
        return {
            "PGHOST": self.socket,
            "PGPORT": str(self.port),
            "PGUSER": self.role,
            "PGAPPNAME": "bedstone",
            # Not what the caller's shell has set, and not what an app has set for its database.
            "PGOPTIONS": OPTIONS if self.role == USER else self.options,
            "PGCLIENTENCODING": "UTF8",
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
        }

    def psql(self, database: str) -> list[str]:
        """Return the argument list of a psql that reads SQL and stops at the first error."""
        return self.command(*psql(database), "--file", "-")

    def execute(self, sql: str, database: str = MAINTENANCE, *, timeout: float | None = 60) -> str:
        """Run SQL and return what it printed.

        Args:
            sql: statements; several in one text are not one transaction by themselves.
            database: where.
            timeout: seconds, None for no limit.

        Raises:
            PostgresError: no connection, or a statement failed.

        """
        try:
            done = run(
                self.psql(database),
                input_text=sql,
                env=self.environment(),
                timeout=timeout,
                cwd="/",
            )
        except CommandError as error:
            raise explained(error.details) from error
        return done.stdout

    def rows(self, query: str, database: str = MAINTENANCE) -> list[Any]:
        """Return a query's rows, each parsed from the JSON that its only column holds."""
        return [json.loads(line) for line in self.execute(query, database).splitlines() if line]

    def value(self, query: str, database: str = MAINTENANCE) -> Any:
        """Return the only value of a query as text, or None for no row."""
        lines = self.execute(query, database).splitlines()
        return lines[0] if lines else None

    def is_ready(self) -> bool:
        """Return whether it accepts connections."""
        ask = [client("pg_isready"), "-q", "-h", self.socket, "-p", str(self.port)]
        return run(ask, check=False).returncode == 0

    def major(self) -> int:
        """Return the server's major version."""
        return int(self.execute("SHOW server_version_num")) // 10_000

    def version(self) -> str:
        """Return the server's version as it names it itself."""
        return self.execute("SHOW server_version").strip()

    def oid(self, database: str) -> int | None:
        """Return a database's identity, which a rename leaves as it is; None if it isn't there."""
        found = self.value(
            f"SELECT oid FROM pg_database WHERE datname = {literal(database)}"  # noqa: S608
        )
        return int(found) if found is not None else None

    def roles(self) -> set[str]:
        """Return the names of all roles."""
        return set(self.rows("SELECT to_json(rolname::text) FROM pg_roles"))

    def program(self, name: str) -> str:
        """Return the program of the server's own major version.

        Debian keeps several versions side by side, and `/usr/bin/pg_dump` chooses one
        by rules of its own.
        """
        own = paths.host(f"{HOME}/{self.major()}/bin/{name}")
        return str(own) if own.exists() else name


def explained(output: str) -> PostgresError:
    """Return the error for the output of a PostgreSQL program."""
    lines = [line for line in output.splitlines() if line.strip()]
    # psql puts its own name and the line of the script in front.
    first = next((line for line in lines if "error:" in line.lower()), lines[0] if lines else "")
    reason = first.partition("ERROR:")[2].strip() or first.partition("error:")[2].strip() or first
    hint = None
    if "connection to server" in output:
        reason = "PostgreSQL doesn't answer on this server"
        hint = "See `systemctl status 'postgresql*'` and `journalctl -u 'postgresql*' -n 50`."
    return PostgresError(f"{reason or 'PostgreSQL failed'}.", hint=hint, details=output)


def call(server: Server, arguments: Sequence[str], *, timeout: float | None) -> Completed:
    """Run a PostgreSQL program that :meth:`Server.command` made.

    Raises:
        PostgresError: it failed; says why in its own words.

    """
    try:
        return run(arguments, env=server.environment(), timeout=timeout, cwd="/")
    except CommandError as error:
        raise explained(error.details or error.message) from error


def identifier(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text quoted for SQL, whatever the server's string settings are."""
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return f" E{quoted}" if "\\" in text else quoted
