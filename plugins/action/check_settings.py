"""The check_settings action: every problem with the settings, the vault and the inventory.

Runs on the controller alone, before the first connection: nothing on a server can have changed
when it fails. Takes no arguments; use it with `run_once`. A second time in one run is skipped.

Ansible loads the class of an action in the process from which it forks the one of every task. What
this file imports is therefore there for all later tasks: 0.3 s each that no task pays again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from bedstone_control.ansible_support import once
from bedstone_control.ansible_support.origin import origin_of, written
from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks import check_settings, host_keys, templates
from bedstone_control.checks.context import Context, Locator
from bedstone_control.checks.problems import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.checks.problems import Problem

ROLES = Path(__file__).resolve().parents[2] / "roles"
# Checked with the inventory, in addition to the variables with our prefixes.
_CONNECTION = ("ansible_host", "ansible_port", "ansible_connection")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Collects the variables of all hosts and hands them to the checks."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        if once.done(variables, "settings"):
            return {**result, "skipped": True, "msg": "Checked already in this run."}
        context, problems = self._context(variables)
        # Of a variable that can't be read, no other property is available.
        unread = tuple(re.split(r"[.\[]", problem.where)[0] for problem in problems)
        problems += [item for item in check_settings(context) if not item.where.startswith(unread)]
        if problems:
            return {**result, "failed": True, "msg": report(problems, "the settings")}
        apps = ", ".join(app["name"] for app in context.variables["bedstone_apps"])
        message = f"The settings are right. Apps: {apps}."
        return {**result, "changed": False, "msg": message, "ansible_facts": once.mark("settings")}

    def _context(self, variables: Mapping[str, Any]) -> tuple[Context, list[Problem]]:
        """Return what the checks look at, and problems with getting it."""
        arguments = _role_arguments()
        hosts = [str(host) for host in variables["groups"]["all"]]
        raw = {host: variables["hostvars"].raw_get(host) for host in hosts}
        own = raw[str(variables["inventory_hostname"])]
        directory = Path(plain(variables.get("inventory_dir")) or ".")
        locator = Locator(own, origin_of, directory)
        loaded: dict[str, Any] = {}
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name in (name for name in own if name.startswith("bedstone_")):
            found = list(templates.check(locator, name, own[name], self._fault))
            problems += found
            if not found:
                loaded[name] = self._templar.template(own[name])
                values[name] = plain(loaded[name])
        roles = (f"{role}_" for role in arguments)
        prefixes = ("bedstone_", *_CONNECTION, *host_keys.NAMES, *roles)
        seen = {
            host: {
                str(name): self._value(str(name), value)
                for name, value in there.items()
                if str(name).startswith(prefixes)
            }
            for host, there in raw.items()
        }
        groups = {str(group): plain(names) for group, names in variables["groups"].items()}
        context = Context(
            values, locator, directory, groups, seen, arguments, loaded, written, self._decrypted
        )
        return context, problems

    def _decrypted(self, path: Path) -> bytes | None:
        """Return a file's content, decrypted where it has to be; None when that can't be done."""
        try:
            content: bytes = self._loader.get_text_file_contents(str(path)).encode()
        except AnsibleError:
            return None
        return content

    def _fault(self, value: Any) -> str | None:
        """Return why a value can't be evaluated, None when it can."""
        try:
            plain(self._templar.template(value))
        except AnsibleError as error:
            return str(error).strip().splitlines()[0]
        return None

    def _value(self, name: str, value: Any) -> Any:
        """Return a host's variable, templated where a check looks at its value."""
        if name == "ansible_ssh_args":
            return str(value)
        if name in host_keys.NAMES and name not in _CONNECTION:
            try:
                return self._templar.template(value)  # its keys have the file and line with them
            except AnsibleError:
                return str(value)
        if name in _CONNECTION or name.endswith("_port") or name == "bedstone_address":
            try:
                return plain(self._templar.template(value))
            except AnsibleError:
                return None
        return None


def _role_arguments() -> dict[str, frozenset[str]]:
    """Return the arguments of each of our roles."""
    result = {}
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        main = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]
        result[path.parents[1].name] = frozenset(main.get("options", {}))
    return result
