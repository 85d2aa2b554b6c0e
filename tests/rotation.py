"""What a run of the tests takes of more than it has time for: another part for another program."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from itertools import combinations

from testbed.paths import ROOT

SEED_SERVERS_VARIABLE = "BEDSTONE_SEED_SERVERS"
SEED_SYSTEMS_OF_A_RUN = 2
# Long stories of whole servers; parts of each are tried in other stages.
STORIES = ("drill", "molecule-postgresql_replica", "molecule-upgrade", "newcomer")
# Long scenarios for which together a slow machine has no time: each run has one group of them.
GROUPS = (("molecule-pgbackrest",), ("molecule-base", "molecule-firewall"))
# Roles that a server has only when its settings ask for them; the seed systems have some of each.
EXTRAS = (
    "molecule-acme", "molecule-logs", "molecule-metrics", "molecule-pgbouncer",
    "molecule-prometheus", "molecule-rabbitmq", "molecule-redis",
)  # fmt: skip


def program_seed() -> int:
    """Return a seed that stays as long as the program does: a new version tries another part.

    Chance alone would let a run of an unchanged tree fail and the next one pass.
    """
    ended = subprocess.run(
        ["git", "rev-parse", "--short=8", "HEAD:src/bedstone"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return int(ended.stdout, 16) if ended.returncode == 0 else secrets.randbelow(10**6)


def seed_servers(
    servers: Mapping[str, Sequence[str]], seed: int, wanted: str = ""
) -> tuple[str, ...]:
    """Return the servers with seed systems that a run provisions.

    Args:
        servers: the names of all, and the systems on each.
        seed: chooses; each server that has two systems has its turn, and each pair of the others.
        wanted: names in place of a choice, with spaces between them.

    Raises:
        ValueError: there is no server of a wanted name.

    """
    if names := tuple(wanted.split()):
        if unknown := [name for name in names if name not in servers]:
            raise ValueError(
                f"{SEED_SERVERS_VARIABLE} has {', '.join(unknown)};"
                f" there are: {', '.join(sorted(servers))}"
            )
        return names
    shared = [name for name in sorted(servers) if len(servers[name]) >= SEED_SYSTEMS_OF_A_RUN]
    others = [name for name in sorted(servers) if name not in shared]
    turns = [*((name,) for name in shared), *combinations(others, SEED_SYSTEMS_OF_A_RUN)]
    return turns[seed % len(turns)]


def story(seed: int) -> str:
    """Return the one of :data:`STORIES` that a run tells."""
    return STORIES[seed % len(STORIES)]


def last(seed: int) -> tuple[str, ...]:
    """Return the stages that a run takes at its end, in order, as far as it has time for them."""
    first = seed % len(EXTRAS)
    taken = GROUPS[seed % len(GROUPS)]
    others = [name for group in GROUPS if group is not taken for name in group]
    return (*others, story(seed), *EXTRAS[first:], *EXTRAS[:first])


def chosen_seed_servers(servers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return what :func:`seed_servers` does for this program and environment."""
    return seed_servers(servers, program_seed(), os.environ.get(SEED_SERVERS_VARIABLE, ""))
