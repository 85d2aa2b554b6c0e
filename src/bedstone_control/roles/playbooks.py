"""Write the parts of the playbooks that list roles: generated, and compared by a test."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from bedstone_control.roles.groups import EVERY_HOST
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bedstone_control.roles.role import Group, Role

_MADE = "---\n# Made by `make docs` from src/bedstone_control/roles/registry.py; a test compares.\n"
_WIDTH = 120  # yamllint's
_STAGES = {
    "machine": (Stage.MACHINE, "what a server needs before it keeps data"),
    "data": (Stage.DATA, "what keeps data; rebuild.yml restores it instead"),
    "front": (Stage.FRONT, "what follows the data"),
}


def files(roles: Iterable[Role] = ROLES) -> dict[str, str]:
    """Return the generated files by their paths below playbooks/."""
    every = tuple(roles)
    found = {"group_vars/all/roles.yml": arguments(every)}
    for name, (stage, purpose) in _STAGES.items():
        # Next to the playbooks that import it: group_vars of an imported playbook are those next
        # to itself (PlaybookExecutor sets its directory).
        header = f"{_MADE}# Imported by other playbooks: {purpose}.\n"
        found[f"converge_{name}.yml"] = header + plays(every, stage)
    return found


def arguments(roles: Iterable[Role]) -> str:
    """Return the variables file that gives the roles their arguments."""
    text = _MADE + (
        "# Variables next to a playbook override an inventory's: only arguments that follow from\n"
        "# the settings are here. Every other one of a role can be set in the inventory.\n"
    )
    for role in roles:
        values = {name: f"__arguments.{name}" for name in role.arguments} | dict(role.expressions)
        lines = "".join(_line(name, value) for name, value in values.items())
        text += f"\n# {role.name}\n{lines}" if lines else ""
    return text


def _line(name: str, value: str) -> str:
    line = f'{name}: "{{{{ {value} }}}}"\n'
    return line if len(line) <= _WIDTH else line.replace(" | ", "\n  | ", 1)


def plays(roles: Iterable[Role], stage: Stage) -> str:
    """Return the plays that apply the roles of a stage: one for neighbours of the same group."""
    staged = [role for role in roles if role.stage == stage]
    return "".join(_play(group, list(each)) for group, each in groupby(staged, lambda r: r.group))


def _play(group: Group, roles: list[Role]) -> str:
    title = (
        "Converge every host"
        if group == EVERY_HOST
        else f"Converge group {group.name}, which {group.purpose}"
    )
    lines = "".join(f"    - {{role: {role.name}, tags: [{role.name}]}}\n" for role in roles)
    return f"\n- name: {title}\n  hosts: {group.name}\n  gather_facts: false\n  roles:\n{lines}"
