"""Define the Debian releases that a server may have, and what depends on the release.

Everything that a new Debian changes for Bedstone belongs here; roles and checks ask.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A supported Debian release.

    Attributes:
        version: as in os-release, for example "13"; the release in the making has none there.
        codename: the name of its suite.
        postgresql: major version of its own PostgreSQL.

    """

    version: str
    codename: str
    postgresql: str


RELEASES = (Release("13", "trixie", postgresql="17"),)
# With this variable in the environment a server may have the next release, which is not supported:
# `make test-next` finds early what it changes.
NEXT_VARIABLE = "BEDSTONE_DEBIAN_NEXT"
NEXT = Release("", "forky", postgresql="18")
SUPPORTED = " or ".join(f"Debian {release.version} ({release.codename})" for release in RELEASES)


def is_supported(distribution: str, version: str) -> bool:
    """Return whether a server's system, as os-release names it, is a supported one."""
    return distribution == "debian" and any(version == known.version for known in _accepted())


def _accepted() -> tuple[Release, ...]:
    return (*RELEASES, NEXT) if os.environ.get(NEXT_VARIABLE) else RELEASES


def postgresql_major(codename: str) -> str:
    """Return the major version of a Debian release's own PostgreSQL.

    Raises:
        ValueError: the release is not supported.

    """
    for release in _accepted():
        if release.codename == codename:
            return release.postgresql
    raise ValueError(f"{codename!r} is not a supported Debian release; use {SUPPORTED}.")
