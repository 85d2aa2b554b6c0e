"""The wiring action: the arguments of all roles, for all hosts of the play, computed once in a run.

Runs on the controller alone. Reads of each host the settings, the variables `__wiring` and
`__address` (playbooks/group_vars/all/wiring.yml) and those arguments of roles that the controller
reads. Returns `hosts`, the arguments of each host by their names.

    wiring:
    register: __wired
    run_once: true

A registered variable stays in memory. Facts could be written to a fact cache, and the arguments
hold secrets: for the same reason no callback gets to see the result. The second time in a run it
returns what it returned the first time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from pydantic import ValidationError

from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks.problems import schema_report
from bedstone_control.roles import arguments, inputs

_REGISTERED = "__wired"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Evaluates the hosts' variables and calls the functions of the wiring."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        registered = variables.get(_REGISTERED)  # before, it is the template of an error
        earlier = plain(registered["hosts"]) if isinstance(registered, Mapping) else {}
        hosts = [str(host) for host in variables["ansible_play_hosts"]]
        result |= {"changed": False, "_ansible_no_log": True}
        if earlier and set(hosts) <= earlier.keys():
            return {**result, "skipped": True, "hosts": earlier}
        try:
            result["hosts"] = arguments.compute(*inputs.collect(self._templar, variables, hosts))
        except ValidationError as error:
            raise AnsibleActionFail(schema_report(error)) from None
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from None
        return result
