"""Collect what answers a checklist: settings, the servers' own words, and a look from outside.

The programs of Ansible are run as an operator would; what doesn't answer is evidence as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedstone_control.inventory import create, offline
from bedstone_control.roles.guesses import console
from bedstone_control.roles.site import Site

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
PROGRAM = "/usr/local/bin/bedstone"
_ENVIRONMENT = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
    "ANSIBLE_VERBOSITY": "0",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
}
# Of role preflight.
SETTINGS_TASK = "Check the settings, the vault and the inventory"
# Runs a program, and returns what it printed on standard output.
Runner = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Evidence:
    """What was found out.

    Attributes:
        site: the settings and the topology, without the vault.
        inventory: its directory.
        settings_problems: why the settings are refused, None when they aren't.
        looks: the rows of the audit; None when it could not be made.
        look_fault: why it could not.
        status: `bedstone status --json` of each host that answered.
        silent: why the other hosts didn't, by host.
        checks: `check --deploy` of each app that runs: None when it passed, else what it said.

    """

    site: Site
    inventory: Path
    settings_problems: str | None = None
    looks: Sequence[Mapping[str, Any]] | None = None
    look_fault: str = ""
    status: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str | None] = field(default_factory=dict)


def collect(directory: Path, options: Sequence[str], ports: str, run: Runner) -> Evidence:
    """Look at an inventory and its servers. Changes nothing.

    Args:
        directory: the inventory.
        options: further options of Ansible's programs, such as the vault's password.
        ports: the TCP ports that the look from outside tries.
        run: runs a program.

    Raises:
        ValueError: there are no settings, or they break the schema.

    """
    site = offline.site(directory)
    common = ["-i", str(directory), *options]
    with tempfile.TemporaryDirectory(prefix="bedstone-checklist-") as made:
        report = Path(made) / "audit.json"
        said = run(
            [
                _program("ansible-playbook"),
                str(PLAYBOOKS / "audit.yml"),
                *common,
                *("-e", json.dumps({"ports": ports, "json": str(report)})),
            ]
        )
        rows = json.loads(report.read_text("utf-8"))["checks"] if report.exists() else None
    results = _results(said)
    refused = [
        str(result.get("msg"))
        for task, found in results
        for result in found.values()
        if result.get("failed") and task.endswith(SETTINGS_TASK)
    ]
    others = [
        str(result.get("msg") or "failed")
        for _, found in results
        for result in found.values()
        if result.get("failed") or result.get("unreachable")
    ]
    fault = refused or others or [said.strip()[-500:] or "ansible-playbook did not run"]
    status, silent = ({}, {}) if refused else _status(common, run)
    return Evidence(
        site,
        directory,
        refused[0] if refused else None,
        rows,
        "" if rows is not None else fault[0],
        status,
        silent,
        _checks(site, status, common, run),
    )


def _status(common: Sequence[str], run: Runner) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    status: dict[str, dict[str, Any]] = {}
    silent: dict[str, str] = {}
    for host, result in _asked("all", f"{PROGRAM} status --json", common, run).items():
        try:
            status[host] = json.loads(result["stdout"])
        except (KeyError, ValueError):
            silent[host] = _reason(result)
    return status, silent


def _checks(
    site: Site, status: Mapping[str, Mapping[str, Any]], common: Sequence[str], run: Runner
) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for app in site.settings.apps:
        start = console(app)
        hosts = [
            host
            for host, picture in status.items()
            if any(each["app"] == app.name and each["release"] for each in picture["apps"])
        ]
        if not hosts or not start or start[-1] != "shell":
            continue
        check = [*start[:-1], "check", "--deploy", "--fail-level", "WARNING"]
        words = " ".join([PROGRAM, "run", app.name, "--", *check])
        results = _asked(hosts[0], words, common, run)
        result = results.get(hosts[0], {})
        found[app.name] = None if result.get("rc") == 0 else _reason(result)
    return found


def _asked(
    hosts: str, command: str, common: Sequence[str], run: Runner
) -> dict[str, Mapping[str, Any]]:
    said = run(
        [_program("ansible"), hosts, "-m", "ansible.builtin.command", "-a", command, *common]
    )
    return {host: result for _, found in _results(said) for host, result in found.items()}


def _results(said: str) -> list[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    """Return the tasks of a run and their results by host, of what the callback printed."""
    start = said.find("{")
    try:
        plays = json.loads(said[start:])["plays"] if start >= 0 else []
    except (ValueError, KeyError):
        return []
    return [(str(task["task"]["name"]), task["hosts"]) for play in plays for task in play["tasks"]]


def _reason(result: Mapping[str, Any]) -> str:
    text = str(result.get("stderr") or result.get("msg") or result.get("stdout") or "no answer")
    return text.strip()


def _program(name: str) -> str:
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else name


def run_program(arguments: Sequence[str]) -> str:
    """Run a program of Ansible's, and return its standard output."""
    done = subprocess.run(
        arguments,
        env={**os.environ, **_ENVIRONMENT},
        cwd=PLAYBOOKS.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout or done.stderr


def vault_options(directory: Path, password_file: Path | None) -> list[str]:
    """Return the options by which Ansible opens the vault."""
    path = password_file or directory / create.PASSWORD_FILE
    return ["--vault-password-file", str(path)] if path.exists() else []
