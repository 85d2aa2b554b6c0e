"""Find the package mirror of this machine's apt, so that the servers use it too."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.shell import run

DEBIAN_SUITES = frozenset({"bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing"})
# The keyring of the package debian-archive-keyring, on hosts and servers alike.
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Options of the host's apt that decide whether a mirror can be reached and is believed.
CARRIED = re.compile(
    r"^Acquire::(?:Check-Valid-Until|Check-Date|Retries|Queue-Mode"
    r"|https?::(?:Proxy|ProxyAutoDetect|Timeout|Pipeline-Depth|Verify-Peer|Verify-Host)(?:::.*)?) "
)
TARGET_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(SOURCESENTRY)"


@dataclass(frozen=True)
class Mirror:
    """Base addresses of Debian's archive; None means the tool's own default."""

    main: str | None = None
    security: str | None = None
    # The file whose entry names the mirror; it may also name a keyring.
    source: str | None = None


def parse_targets(text: str) -> Mirror:
    """Return the mirror that `apt-get indextargets` (in TARGET_FORMAT) shows.

    A third party's repository for Debian may use the same suite names; the
    archive's own is told by its Release file's origin or, before the first
    `apt-get update`, by its path.
    """
    main = security = source = None
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 5:  # noqa: PLR2004
            continue
        uri, release, component, origin, entry = fields
        debian = origin == "Debian" or (
            origin.startswith("$(") and re.search(r"/debian(-security|-archive)?/?$", uri)
        )
        if component != "main" or not debian or not re.match(r"^https?://", uri):
            continue
        if release in DEBIAN_SUITES and main is None:
            main, source = uri, entry.rpartition(":")[0]
        elif release.partition("-")[0] in DEBIAN_SUITES and release.endswith("-security"):
            security = security or uri
    return Mirror(main, security if main else None, source)


def signed_by(source_text: str) -> str | None:
    """Return the keyring file that a sources file (either format) names, if any."""
    found = re.search(r"signed-by\s*[:=]\s*(/[^\s\],]+)", source_text, re.IGNORECASE)
    return found.group(1) if found else None


def find_mirror() -> Mirror:
    """Return the mirror of this machine's apt, or the default one where there is no apt."""
    try:
        command = ["apt-get", "indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"]
        found = run(command, check=False)
    except TestbedError:
        return Mirror()
    return parse_targets(found.stdout) if found.returncode == 0 else Mirror()


def find_keyring(mirror: Mirror) -> str | None:
    """Return the keyring file of this machine that a mirror's archive is checked with."""
    named = None
    if mirror.source and Path(mirror.source).is_file():
        named = signed_by(Path(mirror.source).read_text(errors="replace"))
    for keyring in (named, DEBIAN_KEYRING):
        if keyring and Path(keyring).is_file():
            return keyring
    return None


def source_lines(mirror: Mirror, suite: str, keyring: str | None) -> list[str]:
    """Return sources.list lines for a suite; none when mmdebstrap's default will do."""
    if mirror.main is None:
        return []
    deb = f"deb [signed-by={keyring}]" if keyring else "deb"
    lines = [f"{deb} {mirror.main} {suite} main", f"{deb} {mirror.main} {suite}-updates main"]
    if mirror.security is not None:
        lines.append(f"{deb} {mirror.security} {suite}-security main")
    return lines


def carried_options(dump: str, environment: dict[str, str]) -> list[str]:
    """Return the lines of `apt-config dump` that a server needs as well.

    Args:
        dump: what `apt-config dump` prints.
        environment: this program's; apt honours the proxy variables in it.

    """
    lines = [
        line for line in dump.splitlines() if CARRIED.match(line) and not line.endswith(' "";')
    ]
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return lines


def host_options() -> list[str]:
    """Return the apt options of this machine that its servers need as well."""
    try:
        dump = run(["apt-config", "dump"], check=False).stdout
    except TestbedError:
        dump = ""
    return carried_options(dump, dict(os.environ))
