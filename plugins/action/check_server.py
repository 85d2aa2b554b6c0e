"""The check_server action: one look at a server, its problems in one report, and its facts.

Runs src/bedstone_control/checks/survey.py there in one round trip, which writes nothing. Returns
those of Ansible's facts that roles read, by their usual names. A second time in one run is skipped.

    check_server:
      min_memory_mb: 900
      min_free_disk_mb: 4096
      max_clock_difference_seconds: 300
"""

from __future__ import annotations

import json
import shlex
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from bedstone_control.ansible_support import once
from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks import pools, server
from bedstone_control.checks.problems import report
from bedstone_control.settings.backup import Backup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.checks.problems import Problem

_ARGUMENTS = {
    "min_memory_mb": {"type": "int", "required": True},
    "min_free_disk_mb": {"type": "int", "required": True},
    "max_clock_difference_seconds": {"type": "int", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Runs the survey and hands what it found to the checks."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(argument_spec=_ARGUMENTS)
        variables = task_vars or {}
        if once.done(variables, "server"):
            return {**result, "skipped": True, "msg": "Checked already in this run."}
        host = str(variables["inventory_hostname"])
        limits = server.Limits(
            memory_mb=given["min_memory_mb"],
            free_disk_mb=given["min_free_disk_mb"],
            clock_difference_seconds=given["max_clock_difference_seconds"],
        )
        try:
            found, output, now = self._survey(variables)
        except AnsibleConnectionFailure as error:
            if not variables.get("host_keys") or not server.has_other_key(str(error)):
                raise
            problems = [server.other_key(host, self._connection.get_option("host"), str(error))]
            return {**result, "failed": True, "msg": report(problems, f"the server {host}")}
        if found is None:
            problems = [server.unreadable(host, output)]
        else:
            runs_apps = host in (variables.get("groups") or {}).get("app", [])
            apps = variables.get("bedstone_apps") or [] if runs_apps else []
            problems = server.check(host, found, limits, now, apps)
            if runs_apps:
                problems += server.check_apps(host, found, self._wanted(variables))
            if host in (variables.get("groups") or {}).get("postgresql", []):
                problems += self._pools(host, found["memory_mb"], variables)
        if problems or found is None:
            return {**result, "failed": True, "msg": report(problems, f"the server {host}")}
        if lowered := server.lowered_retention(host, found, self._backup(variables)):
            result["warnings"] = [*result.get("warnings", []), lowered]
        return {
            **result,
            "changed": False,
            "ansible_facts": server.facts(found) | once.mark("server"),
            "msg": f"Debian {found['full_version']}, {found['memory_mb']} MiB of memory.",
        }

    def _wanted(self, variables: Mapping[str, Any]) -> server.Wanted:
        """Return the apps of the settings, and what was asked for by name."""
        names = ("bedstone_apps", "retire", "start_empty")
        apps, retire, start_empty = (
            self._templar.template(variables.get(name)) or [] for name in names
        )
        return server.Wanted(
            {str(app["name"]): [str(one) for one in app.get("domains") or []] for app in apps},
            *(
                frozenset(text.split(",") if isinstance(text, str) else map(str, text))
                for text in (retire, start_empty)
            ),
        )

    def _pools(self, host: str, memory_mb: int, variables: Mapping[str, Any]) -> Iterator[Problem]:
        """Return the problems of the pools of connections with this server."""
        names = ("memory_mb", "memory_share_percent", "max_connections")
        given = {
            f"postgresql_{name}": plain(self._templar.template(variables[f"postgresql_{name}"]))
            for name in names
            if f"postgresql_{name}" in variables
        }
        apps = plain(self._templar.template(variables.get("bedstone_apps"))) or []
        return pools.check_server(host, memory_mb, apps, given)

    def _backup(self, variables: Mapping[str, Any]) -> Backup:
        """Return the settings of the backups, which check_settings has judged."""
        given = plain(self._templar.template(variables.get("bedstone_backup")))
        return Backup.model_validate(given or {})

    def _survey(self, variables: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str, float]:
        """Return what the survey found, what it said, and the controller's time of it."""
        program = files("bedstone_control.checks").joinpath("survey.py").read_text(encoding="utf-8")
        python = str(variables.get("ansible_python_interpreter", "/usr/bin/python3"))
        before = time.time()
        ports = " ".join(map(str, server.OWN_PROGRAMS))
        answer = self._low_level_execute_command(f"{python} -c {shlex.quote(program)} {ports}")
        now = (before + time.time()) / 2
        lines = answer["stdout"].strip().splitlines()
        try:
            found = json.loads(lines[-1]) if answer["rc"] == 0 else None
        except (IndexError, ValueError):
            found = None
        return found, f"{answer['stdout']}\n{answer['stderr']}", now
