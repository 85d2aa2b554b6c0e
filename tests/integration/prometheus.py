"""Prometheus and its tools on this machine: Debian's, unpacked by `make setup`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.unit.fixtures.checkout import ROOT

UNPACKED = ROOT / ".cache" / "prometheus" / "usr" / "bin"
_LIMIT_SECONDS = 120


def program(name: str) -> Path:
    """Return a program.

    Raises:
        FileNotFoundError: it is missing.

    """
    found = shutil.which(name, path=f"{UNPACKED}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise FileNotFoundError(
            f"{name} is missing: `make setup` unpacks it from Debian's packages prometheus and "
            f"prometheus-alertmanager into {UNPACKED.parents[1]}, or install it on the PATH."
        )
    return Path(found)


def run_tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool and return how it ended."""
    return subprocess.run(
        [str(program(name)), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_SECONDS,
    )
