"""Find the programs of the PostgreSQL versions that this host has, as Debian installs them.

`/usr/bin/psql` and its like are a wrapper in Perl (postgresql-common) that looks for a cluster of
its own choice and takes several times as long as a query; a program of a version is started by its
path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.core import paths

if TYPE_CHECKING:
    from pathlib import Path

HOME = "/usr/lib/postgresql"


def majors(program: str) -> list[int]:
    """Return the major versions that have a program here, the oldest first."""
    found = (entry.parts[-3] for entry in paths.host(HOME).glob(f"*/bin/{program}"))
    # What an operator moved aside has another name.
    return sorted(int(name) for name in found if name.isdecimal())


def home_of(major: int | str) -> Path:
    """Return where a version's programs are, whether it is installed or not."""
    return paths.host(f"{HOME}/{major}/bin")


def client(name: str) -> str:
    """Return the newest ``psql`` or ``pg_isready``: it speaks with every older server.

    Without one in Debian's place it is the name alone, for the PATH.
    """
    found = majors(name)
    return str(paths.host(f"{HOME}/{found[-1]}/bin/{name}")) if found else name


def psql(database: str) -> list[str]:
    """Return the argument list of a psql that prints bare rows and stops at the first error.

    Args:
        database: its name, or a conninfo string.

    """
    return [
        client("psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password",
        "--set", "ON_ERROR_STOP=1", "--dbname", database,
    ]  # fmt: skip
