"""Debian packages: which are missing, and how they are installed."""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone_run import ConvergeError, Runner
else:
    from ansible.module_utils.bedstone_run import ConvergeError, Runner

# Package lists younger than this are used as they are: one `apt-get update` serves a whole run.
LISTS_FRESH_SECONDS = 3600
LOCK_TIMEOUT_SECONDS = 300
# Says when the lists were last fetched; apt's own files tell it only when something was new.
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
    options = ["-q", "-y", "-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT_SECONDS}"]
    if lists_are_stale(root):
        ended = run(["apt-get", "update", *options], timeout_seconds=900)
        if ended.code != 0:
            raise ConvergeError(
                f"`apt-get update` failed (exit {ended.code}).\n{_end_of(ended.text())}"
            )
        (root / STAMP).parent.mkdir(parents=True, exist_ok=True)
        (root / STAMP).touch()
    install = [
        "apt-get",
        "install",
        *options,
        "--no-install-recommends",
        "-o",
        "Dpkg::Options::=--force-confdef",
        "-o",
        "Dpkg::Options::=--force-confold",
        "--",
        *missing,
    ]
    ended = run(install, timeout_seconds=3600)
    if ended.code != 0:
        raise ConvergeError(
            f"Installing {', '.join(missing)} failed (apt-get exit {ended.code}).\n"
            f"{_end_of(ended.text())}"
        )


def lists_are_stale(root: Path) -> bool:
    """Tell whether `apt-get update` is due: lists too old, or older than their sources."""
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
