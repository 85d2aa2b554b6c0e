"""Compute the arguments of the roles: for all hosts of a run at once, each of them once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.roles import registry
from bedstone_control.roles.site import Site, validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.settings.root import Settings


def compute(
    inputs: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the arguments of each host.

    Args:
        inputs: the variable `__wiring` of each host.
        addresses: the address of each host of the inventory.

    Raises:
        ValueError: settings break the schema (pydantic's ValidationError), or what they name
            can't be used.

    """
    functions = registry.arguments()
    known: dict[str, Settings] = {}  # the same for all hosts, as a rule
    result: dict[str, dict[str, Any]] = {}
    for host, variables in inputs.items():
        given = variables["settings"]
        text = repr(given)
        if text not in known:
            known[text] = validated(given)
        site = Site.from_variables(
            {**variables, "addresses": addresses}, registry.ROLES, known[text]
        )
        result[host] = {}
        for name, function in functions.items():
            try:
                result[host][name] = function(site)
            except (KeyError, ValueError) as error:
                raise ValueError(f"{name} of {host}: {error}") from error
    return result
