"""Collect of Ansible's hosts what the functions of the roles' arguments take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.ansible_support.plain import plain
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import defaults
from bedstone_control.settings.root import from_variables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def collect(
    templar: Any, variables: Mapping[str, Any], hosts: Collection[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the variable `__wiring` of each host with its settings, and every host's address.

    Args:
        templar: Ansible's.
        variables: the variables of the task.
        hosts: the hosts whose variables are read.

    """
    found: dict[str, dict[str, Any]] = {}
    addresses: dict[str, str] = {}
    names = defaults(ROLES)
    for name in map(str, variables["groups"]["all"]):
        there = {**variables["hostvars"].raw_get(name), "hostvars": variables["hostvars"]}
        own = templar.copy_with_new_env(available_variables=there)
        addresses[name] = plain(own.template(there["__address"]))
        if name in hosts:
            read = {key: there[key] for key in names if key in there}
            given = {"settings": from_variables(there), "variables": read}
            found[name] = plain(own.template({**there["__wiring"], **given}))
    return found, addresses
