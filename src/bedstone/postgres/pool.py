"""Ask PgBouncer's console for its pools, as its own system user over its own socket."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from bedstone.core import paths, process
from bedstone.core.errors import BedstoneError
from bedstone.postgres.programs import client
from bedstone.postgres.server import Server

_INI = "/etc/bedstone/pool/pgbouncer.ini"
# Its own databases: the console, and where logins are checked.
_OWN = {"pgbouncer", "bedstone_pool"}
_PORT = "listen_port"
_USER = "bedstone-pool"
_SECONDS = 15.0


@dataclass(frozen=True)
class Pool:
    """A pool: the connections of one login to one database.

    Attributes:
        database: the database.
        login: the role that clients log in as.
        clients: how many of them have a connection, or hold none now.
        waiting: how many wait for one.
        servers: how many connections to PostgreSQL it has.
        wait_seconds: how long the first of those that wait has waited.

    """

    database: str
    login: str
    clients: int
    waiting: int
    servers: int
    wait_seconds: float


def pools(run: process.Runner = process.run) -> list[Pool]:
    """Return the pools; none on a server without role pgbouncer.

    Args:
        run: runs programs.

    Raises:
        BedstoneError: the console doesn't answer.

    """
    configuration = paths.host(_INI)
    if not configuration.exists():
        return []
    lines = (line.partition("=") for line in configuration.read_text("utf-8").splitlines())
    port = next((value for key, _, value in lines if key.strip() == _PORT), "6432")
    console = Server("/run/bedstone-pool", int(port), account=_USER, role="pgbouncer", options="")
    said = run(
        console.command(client("psql"), "-X", "--csv", "-w", "-d", "pgbouncer", "-c", "SHOW POOLS"),
        env=console.environment(),
        timeout=_SECONDS,
        cwd="/",
    )
    try:
        return [
            Pool(
                database=row["database"],
                login=row["user"],
                clients=int(row["cl_active"]) + int(row["cl_waiting"]),
                waiting=int(row["cl_waiting"]),
                servers=sum(int(row[f"sv_{state}"]) for state in ("active", "idle", "used")),
                wait_seconds=int(row["maxwait"]) + int(row["maxwait_us"]) / 1e6,
            )
            for row in csv.DictReader(said.stdout.splitlines())
            if row["database"] not in _OWN
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise BedstoneError("PgBouncer's console answered in an unknown form.") from error
