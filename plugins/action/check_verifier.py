"""The check_verifier action: whether the host of the group `verify` can restore what others have.

Runs on the controller alone, when all servers were looked at (check_server). Takes no arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.plugins.action import ActionBase

from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks import verifier
from bedstone_control.checks.problems import report
from bedstone_control.debian import postgresql_major

if TYPE_CHECKING:
    from collections.abc import Mapping


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Compares the facts of the servers."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        host, groups = str(variables["inventory_hostname"]), variables["groups"]
        if host not in groups.get(verifier.GROUP, []):
            return {**result, "skipped": True, "msg": "It proves its own backups alone."}
        names = [host, *map(str, groups.get("postgresql", []))]
        servers = {name: found for name in names if (found := _server(variables, name)) is not None}
        if problems := verifier.unlike(host, servers):
            return {**result, "failed": True, "msg": report(problems, f"the server {host}")}
        return {**result, "changed": False, "msg": "It can restore what the others back up."}


def _server(variables: Mapping[str, Any], name: str) -> dict[str, str] | None:
    """Return a server's facts for the comparison, None when none were collected (`--limit`)."""
    known = variables["hostvars"][name]
    facts = known.get("ansible_facts") or {}
    release = facts.get("distribution_release")
    if release is None:
        return None
    version = plain(known.get("postgresql_version")) or postgresql_major(str(release))
    return {"release": str(release), "postgresql": str(version).partition(".")[0]}
