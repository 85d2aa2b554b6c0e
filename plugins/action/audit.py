"""The audit action: what all hosts of the play answer on the network, against the inventory.

Runs on the controller alone and logs in nowhere. Prints a table, and fails when a check did.

    audit:
      ports: 1-65535
      json: audit.json
    run_once: true
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from pydantic import ValidationError

from bedstone_control.ansible_support.plain import plain
from bedstone_control.audit import look, report, targets
from bedstone_control.checks.problems import schema_report
from bedstone_control.roles import inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

_ARGUMENTS = {
    "ports": {"type": "str", "required": True},
    "json": {"type": "str", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Collects the hosts' variables and looks at the hosts."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(argument_spec=_ARGUMENTS)
        variables = task_vars or {}
        hosts = [str(host) for host in variables["ansible_play_hosts"]]
        try:
            found, addresses = inputs.collect(self._templar, variables, hosts)
            there = {host: self._address(variables, host) for host in hosts}
            rows = look.audit(found, addresses, there, targets.ports(given["ports"]))
            if given["json"]:
                Path(given["json"]).write_text(report.as_json(rows), encoding="utf-8")
        except ValidationError as error:
            raise AnsibleActionFail(schema_report(error)) from None
        except (OSError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from None
        self._display.display("\n".join(report.table(rows)))
        failed = not all(row.ok for row in rows)
        return {**result, "changed": False, "failed": failed, "msg": report.summary(rows)}

    def _address(self, variables: Mapping[str, Any], host: str) -> str:
        """Return where Ansible reaches a host."""
        return str(plain(variables["hostvars"][host].get("ansible_host", host)))
