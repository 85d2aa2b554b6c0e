"""The drift action: run a playbook in check mode, and print what differs from the declared state.

Runs on the controller, as a second ansible-playbook with the options of the first. Fails when
something differs. A comparison that failed counts as a host that can't be reached: ansible-playbook
then ends with 4 and not with 2.

    drift:
      playbook: "{{ playbook_dir }}/site.yml"
      json: drift.json
    run_once: true
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from bedstone_control import drift
from bedstone_control.ansible_support.plain import plain

_ARGUMENTS = {
    "playbook": {"type": "str", "required": True},
    "json": {"type": "str", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Starts the comparison and prints its report."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(argument_spec=_ARGUMENTS)
        options = context.CLIARGS
        try:
            command = drift.command(sys.argv, options["args"], options, given["playbook"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from None
        done = subprocess.run(
            command,
            env={**os.environ, **drift.ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        secrets = plain(self._templar.template((task_vars or {}).get("bedstone_secrets")))
        found = drift.report(done.returncode, done.stdout, done.stderr, secrets)
        if given["json"]:
            Path(given["json"]).write_text(found.as_json(), encoding="utf-8")
        self._display.display("\n".join(found.lines()))
        if found.failures:
            raise AnsibleConnectionFailure(found.summary())
        return {**result, "changed": False, "failed": bool(found.findings), "msg": found.summary()}
