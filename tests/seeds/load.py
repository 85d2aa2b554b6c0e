"""Requests of `python -m bedstone_control load` while something happens to a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from testbed.paths import ROOT
from tests.seeds.conftest import System, Tenant

MOST_SECONDS = 3600
LIMIT_SECONDS = 120


def command(system: System, app: str, *options: str) -> list[str]:
    """Return the command with its options."""
    program = [sys.executable, "-m", "bedstone_control", "load", str(system.directory), app]
    return [*program, "--confirm", app, "--json", *options]


@contextmanager
def load(system: System, tenant: Tenant, *options: str) -> Iterator[dict[str, Any]]:
    """Send requests until the block ends; the dict gets the command's report and exit code."""
    process = subprocess.Popen(
        command(system, tenant.app, f"--seconds={MOST_SECONDS}", *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = {}
    with process, ExitStack() as ended:
        ended.callback(process.kill)
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("Sends "), said + process.stderr.read()
        yield found
        process.send_signal(signal.SIGINT)
        report, errors = process.communicate(timeout=LIMIT_SECONDS)
        assert report, errors
        found.update(json.loads(report), code=process.returncode)
