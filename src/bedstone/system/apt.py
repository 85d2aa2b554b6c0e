"""Call apt and dpkg."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.process import run

_ASK_SECONDS = 15.0
_INSTALL_SECONDS = 1800.0
_INSTALLED = re.compile(r"^\s*Installed: (\S+)", re.MULTILINE)
_CANDIDATE = re.compile(r"^\s*Candidate: (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Update:
    """A newer version of an installed package.

    Attributes:
        installed: the version that is installed.
        candidate: the version that apt would install.
        security: whether it comes from Debian's security archive.

    """

    installed: str
    candidate: str
    security: bool


def update(package: str) -> Update | None:
    """Return the pending version of a package; None if it isn't installed, or is the newest."""
    said = run(
        ["apt-cache", "policy", package], env={"LC_ALL": "C"}, check=False, timeout=_ASK_SECONDS
    ).stdout
    installed, candidate = _INSTALLED.search(said), _CANDIDATE.search(said)
    if not installed or not candidate or installed[1] in {"(none)", candidate[1]}:
        return None
    # The lines below a version name where it comes from.
    _, _, sources = said.partition(f" {candidate[1]} ")
    sources = sources.partition("\n     ")[2].partition("\n *** ")[0]
    return Update(installed[1], candidate[1], "security" in sources)


def installed(*patterns: str, held: bool = True) -> set[str]:
    """Return the installed packages with names that fit one of the patterns.

    Args:
        patterns: as dpkg-query takes them (``postgresql-17-*``).
        held: count those on hold.

    """
    said = run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}\t${Package}\n", *patterns],
        check=False,
    ).stdout
    states = ("ii", "hi") if held else ("ii",)
    return {line.partition("\t")[2] for line in said.splitlines() if line.startswith(states)}


def upgrade(*packages: str, download_only: bool = False) -> None:
    """Install the newest versions of installed packages; settings files stay as they are.

    Raises:
        BedstoneError: apt failed; says why.

    """
    try:
        run(
            [
                "apt-get", "--yes", "--quiet", "-o", "Dpkg::Options::=--force-confdef",
                "-o", "Dpkg::Options::=--force-confold", "install", "--only-upgrade",
                *(["--download-only"] if download_only else []), *packages,
            ],
            timeout=_INSTALL_SECONDS,
            env={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except CommandError as error:
        raise BedstoneError(
            "apt could not install the new versions.",
            details=error.details,
            hint="`dpkg --configure -a` finishes what was begun.",
        ) from error
