"""Debian packages: which are missing, and how they are installed."""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone_run import ConvergeError, Ended, Runner
else:
    from ansible.module_utils.bedstone_run import ConvergeError

# Package lists younger than this are used as they are: one `apt-get update` serves a whole run.
LISTS_FRESH_SECONDS = 3600
LOCK_TIMEOUT_SECONDS = 300
LOCK_INTERVAL_SECONDS = 3.0
APT_TIMEOUT_SECONDS = 3600
LOCKED, INTERRUPTED = "Could not get lock", "dpkg --configure -a"
# Says when the lists were last fetched; apt's own files show it only when something was new.
STAMP = "var/lib/bedstone/converge/.package-lists-fetched"


def missing_packages(wanted: list[str], run: Runner) -> list[str]:
    """Return those of the wanted packages that aren't installed.

    Args:
        wanted: package names as apt takes them; `name=1.2*` asks for a version.
        run: runs a program.

    """
    if not wanted:
        return []
    names = sorted({entry.partition("=")[0] for entry in wanted})
    shown = "${binary:Package} ${db:Status-Status} ${Version}\n"
    ended = run(["dpkg-query", "-W", "-f", shown, *names])
    installed: dict[str, str] = {}
    for line in ended.output.splitlines():
        name, status, version = [*line.split(" "), "", ""][:3]
        if status == "installed":
            installed[name.partition(":")[0]] = version
            installed[name] = version
    missing = []
    for entry in wanted:
        name, _, version = entry.partition("=")
        if name not in installed or (version and not fnmatch.fnmatch(installed[name], version)):
            missing.append(entry)
    return missing


def install_packages(missing: list[str], run: Runner, root: Path) -> None:
    """Install packages with apt-get, without recommended ones; changed conffiles are kept.

    Raises:
        ConvergeError: apt-get failed; the text holds the end of what it printed.

    """
    fetched = lists_are_stale(root)
    if fetched:
        fetch_lists(run, root)
    keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    install = ["install", "--no-install-recommends", *keep, "--", *missing]
    ended = _apt_get(install, run)
    if ended.code != 0 and not fetched:
        # The lists were emptied, or the archive has changed since.
        fetch_lists(run, root)
        ended = _apt_get(install, run)
    if ended.code != 0:
        raise ConvergeError(
            f"Installing {', '.join(missing)} failed (apt-get exit {ended.code}).\n"
            f"{_end_of(ended.errors or ended.output)}"
        )


def fetch_lists(run: Runner, root: Path) -> None:
    """Fetch the package lists.

    Raises:
        ConvergeError: apt-get failed; the text holds the end of what it printed.

    """
    ended = _apt_get(["update"], run)
    if ended.code != 0:
        raise ConvergeError(
            f"`apt-get update` failed (exit {ended.code}).\n{_end_of(ended.errors or ended.output)}"
        )
    (root / STAMP).parent.mkdir(parents=True, exist_ok=True)
    (root / STAMP).touch()


def _apt_get(words: list[str], run: Runner) -> Ended:
    """Run apt-get; wait for another one, and finish what a killed one left.

    DPkg::Lock::Timeout is for dpkg's lock alone; the lists' lock is held for a while on a
    server's first boot, by its own daily upgrade.
    """
    options = ["-q", "-y", "-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT_SECONDS}"]
    limit = time.monotonic() + LOCK_TIMEOUT_SECONDS
    command = ["apt-get", words[0], *options, *words[1:]]
    ended = run(command, timeout_seconds=APT_TIMEOUT_SECONDS)
    while ended.code != 0 and LOCKED in ended.errors and time.monotonic() < limit:
        time.sleep(LOCK_INTERVAL_SECONDS)
        ended = run(command, timeout_seconds=APT_TIMEOUT_SECONDS)
    if ended.code != 0 and INTERRUPTED in ended.errors:
        run(["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"])
        ended = run(command, timeout_seconds=APT_TIMEOUT_SECONDS)
    return ended


def lists_are_stale(root: Path) -> bool:
    """Return whether `apt-get update` is due: lists too old, or older than their sources."""
    fetched = _mtime(root / STAMP)
    apt = root / "etc/apt"
    sources = [apt / "sources.list", apt / "sources.list.d", *_entries(apt / "sources.list.d")]
    newest_source = max(_mtime(path) for path in sources)
    return time.time() - fetched > LISTS_FRESH_SECONDS or newest_source > fetched


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _end_of(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
