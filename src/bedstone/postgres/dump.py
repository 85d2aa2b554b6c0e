"""Dump a database in parallel in pg_dump's directory format, and restore it."""

from __future__ import annotations

import json
import os
import pwd
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bedstone.core import process, safe_tree
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.postgres import properties as database_properties
from bedstone.postgres import restore_role
from bedstone.postgres import server as postgres
from bedstone.postgres.restore_role import Turn
from bedstone.postgres.snapshot import COUNTS, Snapshot, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bedstone.postgres.restore_role import Login
    from bedstone.postgres.server import Server

# pg_dump has zstd since version 16; it is three times as fast as gzip at its size.
_ZSTD_SINCE = 16
# Rather fail, loudly, than wait all night behind a migration that hangs.
_LOCK_WAIT = "10min"

# What a dump consists of, in pg_restore's words.

# "3421; 0 0 COMMENT - EXTENSION pg_trgm": extensions are made beforehand, and neither they nor
# the schema public can be commented on by another role.
_SUPERUSERS = re.compile(
    r"\d+; \d+ \d+ (EXTENSION |COMMENT - EXTENSION |COMMENT - SCHEMA public |SCHEMA - public )"
)

_EXTENSIONS = """
SELECT json_build_array(extname, extversion, pg_get_userbyid(extowner))
  FROM pg_extension ORDER BY extname;
"""


def dump(
    server: Server,
    database: str,
    directory: Path,
    *,
    jobs: int,
    watch: Callable[[], None],
) -> Database:
    """Dump a database into a directory that is made for it.

    Args:
        server: where it is.
        database: its name.
        directory: made; afterwards it and its files are root's alone.
        jobs: parallel processes.
        watch: called repeatedly while it runs; its exception stops the dump.

    Returns:
        What the manifest records of it.

    Raises:
        BedstoneError: there is no such database, or the dump failed.

    """
    properties = database_properties.read(server, database)
    if properties is None:
        raise BedstoneError(
            f"The database {database} isn't on this server.",
            hint="Run the playbook `provision.yml`, whose role `postgresql` makes it, or restore"
            " a backup (`bedstone restore`).",
        )
    major = server.major()
    program = server.program("pg_dump")
    version = postgres.call(server, server.command(program, "--version"), timeout=30).stdout
    compression = "zstd" if major >= _ZSTD_SINCE else "gzip"
    directory.mkdir(mode=0o700)
    # pg_dump runs as PostgreSQL's user, which can't walk through root's directories: it is handed
    # this one opened, and owns it for the time of the dump alone.
    _give(directory, server.account)
    with (
        Snapshot(server, database) as snapshot,
        Snapshot(reader(server, database), database, snapshot.id) as counting,
        _opened(directory) as descriptor,
    ):
        # The counts run next to the dump and take locks as it does; both see one moment. Without
        # helpers of their own, which would take the processors from those that the app waits for.
        counting.begin(f"SET LOCAL max_parallel_workers_per_gather = 0;\n{COUNTS}")
        try:
            process.run(
                server.command(
                    program,
                    "--format=directory",
                    f"--jobs={jobs}",
                    f"--snapshot={snapshot.id}",
                    "--compress=zstd" if compression == "zstd" else "--compress=6",
                    f"--lock-wait-timeout={_LOCK_WAIT}",
                    "--no-password",
                    "--no-sync",
                    f"--file=/proc/self/fd/{descriptor}",
                    f"--dbname={_connection(database)}",
                ),
                env=server.environment(),
                cwd="/",
                descriptors=(descriptor,),
                timeout=None,
                watch=watch,
            )
        except CommandError as error:
            raise BedstoneError(
                f"pg_dump of the database {database} failed.", details=error.details
            ) from error
        rows = dict(json.loads(line) for line in counting.answer() if line)
    _give(directory, "root")
    extensions = server.rows(_EXTENSIONS, database)
    # Here, where earlier programs ignore it.
    properties["extension_owners"] = {name: owner for name, _, owner in extensions}
    return Database(
        name=database,
        bytes=int(properties["size"]),
        server_version=server.version(),
        server_major=major,
        dump_version=version.strip(),
        compression=compression,
        properties=properties,
        roles=database_properties.roles(server, database),
        extensions={name: version for name, version, _ in extensions},
        rows=rows,
    )


def contents(server: Server, directory: Path) -> int:
    """Return the number of objects in a dump, read by pg_restore itself.

    Raises:
        PostgresError: pg_restore can't read it.

    """
    lines = listing(server, directory).splitlines()
    return sum(1 for line in lines if line and not line.startswith(";"))


def load(
    server: Server,
    directory: Path,
    database: str,
    *,
    jobs: int,
    owner: str | None,
    watch: Callable[[], None],
    login: Login | None = None,
) -> None:
    """Restore a dump into an empty database.

    Args:
        server: where the database is.
        directory: the dump.
        database: its name.
        jobs: parallel processes.
        owner: role that is to own everything, its privileges being those that are the
            default in the database; None for the owners and privileges of the dump.
        watch: called repeatedly while it runs; its exception stops it.
        login: the role to come as, so that functions of the dump don't run with the superuser's
            rights; None to trust it as much as the server it came from.

    Raises:
        BedstoneError: an object could not be restored.

    """
    arguments = [
        "--format=directory", f"--jobs={jobs}", "--exit-on-error", "--no-password",
        "--no-subscriptions", f"--dbname={_connection(database)}",
    ]  # fmt: skip
    if owner is not None:
        arguments += ["--no-owner", "--no-privileges", f"--role={owner}"]
    if owner is None and login is None:
        _restore(server, database, [*arguments, str(directory)], watch=watch)
        return
    lines = listing(server, directory).splitlines()
    if owner is not None:
        lines = [line for line in lines if not _SUPERUSERS.match(line)]
    if login is None or owner is not None:
        # With an owner, all of it will be that role's.
        turns = [Turn(lines, superuser=login is None)]
    else:
        turns = restore_role.split(lines, login)
    _in_turns(server, database, turns, login, [*arguments, str(directory)], watch=watch)


def _in_turns(
    server: Server,
    database: str,
    turns: Sequence[Turn],
    login: Login | None,
    arguments: Sequence[str],
    *,
    watch: Callable[[], None],
) -> None:
    for heir, theirs in groupby(turns, key=lambda turn: turn.heir):
        if heir is not None and login is not None:
            restore_role.hand_over(server, database, login.owner)
            restore_role.let_create(server, database)
        for turn in theirs:
            comes_as, how = server, list(arguments)
            if login is not None and not turn.superuser:
                comes_as = replace(server, role=login.name)
                how += ["--no-owner"] if heir is not None else []
                how += [f"--role={turn.role}"] if turn.role is not None else []
            with tempfile.NamedTemporaryFile("w", suffix=".list") as objects:
                objects.write("".join(f"{line}\n" for line in turn.lines))
                objects.flush()
                _restore(comes_as, database, [*how, f"--use-list={objects.name}"], watch=watch)
        if heir is not None:
            restore_role.hand_over(server, database, heir)


def _restore(
    server: Server,
    database: str,
    arguments: Sequence[str],
    *,
    watch: Callable[[], None],
) -> None:
    try:
        process.run(
            server.command(server.program("pg_restore"), *arguments, read_everything=True),
            env=server.environment(),
            cwd="/",
            timeout=None,
            watch=watch,
        )
    except CommandError as error:
        raise BedstoneError(
            f"pg_restore into {database} failed; nothing that serves was touched.",
            details=error.details,
        ) from error


def count(server: Server, database: str) -> dict[str, int]:
    """Return the rows of every table, as :func:`dump` counts them."""
    with Snapshot(reader(server, database), database) as counting:
        counting.begin(COUNTS)
        return dict(json.loads(line) for line in counting.answer() if line)


def listing(server: Server, directory: Path) -> str:
    """Return the contents of a dump, a line for each object.

    Raises:
        PostgresError: pg_restore can't read it.

    """
    return postgres.call(
        server,
        server.command(
            server.program("pg_restore"), "--list", str(directory), read_everything=True
        ),
        timeout=300,
    ).stdout


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _connection(database: str) -> str:
    # As a connection string, so that a name with an equals sign isn't taken for one.
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _give(directory: Path, user: str) -> None:
    account = pwd.getpwnam(user)
    # What lies there came from another user: no link is followed.
    for entry in safe_tree.walk(directory):
        entry.give(account.pw_uid, account.pw_gid)
        entry.set_mode(0o700 if entry.is_directory else 0o600)


@dataclass(frozen=True)
class Database:
    """The dumped database, as it was at the moment of the dump.

    Attributes:
        name: its name.
        bytes: its size on the server's disk.
        server_version: as PostgreSQL says it ("17.6 (Debian ...)").
        server_major: 15, 17, ...
        dump_version: of pg_dump.
        compression: of the dump's files ("zstd", "gzip").
        properties: owner, locale, privileges and settings of the database itself,
            which a dump of its contents leaves out.
        roles: every role that owns something in it or has a privilege on it.
        extensions: extension -> version.
        rows: "schema.table" -> rows, counted in the dump's own snapshot.

    """

    name: str
    bytes: int
    server_version: str
    server_major: int
    dump_version: str
    compression: str
    properties: dict[str, Any]
    roles: list[str]
    extensions: dict[str, str]
    rows: dict[str, int]
