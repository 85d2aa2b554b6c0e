"""Check a restored database: its tables and indexes, and the app's own `backup_checks`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run
from bedstone.postgres import queries, restore_role
from bedstone.postgres.server import SETTINGS, PostgresError, identifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.postgres.server import Server

_CHECK_SECONDS = 600
# pg_amcheck's exit code for "something is broken".
_BROKEN = 2


def ask(server: Server, check: str, owner: str, database: str) -> None:
    """Run one of an app's `backup_checks`.

    Raises:
        BedstoneError: it isn't true.

    """
    # As the owner, in a session that is no superuser's, and as a part of an expression: it can only
    # look, and finds names as the app does.
    expression = check.strip().rstrip(";")
    script = (
        f"SET statement_timeout = '{_CHECK_SECONDS}s'; SET ROLE {identifier(owner)};\n"
        f"SET default_transaction_read_only = on;\nSELECT to_json((\n{expression}\n));"
    )
    try:
        with restore_role.login(server, owner):
            asked = replace(server, role=restore_role.NAME, options=SETTINGS)
            said = asked.execute(script, database, timeout=_CHECK_SECONDS + 60).strip()
    except PostgresError as error:
        raise BedstoneError(
            f"The check {expression!r} can't be answered by what was restored: {error.message}",
            hint="Either the data isn't whole, or `backup_checks` of the app is out of date.",
        ) from error
    try:
        answer = json.loads(said) if said else None
    except ValueError:
        answer = said
    if answer is not True:
        raise BedstoneError(
            f"The check {expression!r} isn't true for what was restored: it says"
            f" {'nothing' if answer is None else json.dumps(answer)}.",
            hint="Either the data isn't whole, or `backup_checks` of the app is out of date.",
        )


def amcheck(server: Server, watch: Callable[[], None], database: str) -> str:
    """Check tables and indexes for corruption, and return the result in words.

    Raises:
        BedstoneError: something is broken.

    """
    available = queries.available_extensions(server)
    if "amcheck" not in available:
        return "tables and indexes were not looked at, since this server has no extension amcheck"
    try:
        run(
            server.command(
                server.program("pg_amcheck"), "--install-missing", "--heapallindexed",
                "--no-password", database,
            ),
            env=server.environment(),
            cwd="/",
            timeout=None,
            watch=watch,
        )  # fmt: skip
    except CommandError as error:
        if error.returncode is None:
            return "tables and indexes were not looked at, since pg_amcheck isn't here"
        raise BedstoneError(
            "pg_amcheck finds tables or indexes of the restored database broken."
            if error.returncode == _BROKEN
            else "pg_amcheck of the restored database failed.",
            details=error.details,
        ) from error
    return "tables and indexes are sound (amcheck)"
