"""Apply a scenario's role once more from a test: with other arguments, or to see it refuse them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIMIT_SECONDS = 900
_PROJECT = Path(__file__).resolve().parents[2]


def apply(server: str, *options: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the scenario's converge on one server.

    Args:
        server: its whole name.
        options: further options of ansible-playbook, such as `--check`.
        arguments: arguments of the role that replace the scenario's.

    Returns:
        the ended run, its output not yet looked at.

    """
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    run = subprocess.run(
        command(server, *options, **arguments),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env=environment,
        cwd=os.environ["MOLECULE_PROJECT_DIRECTORY"],
    )
    check_deprecations(run)
    return run


def command(server: str, *options: str, **arguments: Any) -> list[str]:
    """Return the command line that runs the scenario's converge, for `apply` and its arguments."""
    project = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
    own = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "converge.yml"
    playbook = own if own.exists() else project / "molecule/shared/converge.yml"
    return [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/inventory",
        f"--limit={server}",
        f"--extra-vars={json.dumps(arguments)}",
        *options,
        str(playbook),
    ]


def check_deprecations(run: subprocess.CompletedProcess[str]) -> None:
    """Fail the test when a run printed a deprecation warning of ansible-core."""
    text = run.stdout + run.stderr
    if "DEPRECATION WARNING" in text:
        pytest.fail(f"a deprecation warning:\n{text}")


def applied(server: str, *options: str, **arguments: Any) -> str:
    """Run the scenario's converge and return what it printed; a failure fails the test."""
    run = apply(server, *options, **arguments)
    if run.returncode != 0:
        pytest.fail(f"the role failed:\n{run.stdout}\n{run.stderr}")
    return run.stdout


def refused(server: str, *options: str, **arguments: Any) -> str:
    """Run the scenario's converge, which has to fail, and return its words on one line."""
    run = apply(server, *options, **arguments)
    if run.returncode == 0:
        pytest.fail(f"the role should have failed:\n{run.stdout}")
    return " ".join(f"{run.stdout} {run.stderr}".split())


def played(name: str, server: str, *options: str) -> str:
    """Run a playbook with the scenario's inventory `production` and return its output."""
    inventory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "production"
    command = [str(Path(sys.executable).with_name("ansible-playbook")), f"playbooks/{name}.yml"]
    command += ["--inventory", str(inventory), "--limit", server, *options]
    command += ["--vault-password-file", str(inventory / ".vault-password")]
    run = subprocess.run(
        command,
        cwd=_PROJECT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(_PROJECT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    check_deprecations(run)
    return run.stdout + run.stderr
