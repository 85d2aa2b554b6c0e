"""Compute the arguments of the roles: for all hosts of a run at once, each of them once."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from bedstone_control.roles import wiring
from bedstone_control.roles.site import Site, validated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bedstone_control.settings.root import Settings

# Each function of the wiring that needs nothing but the site is an argument.
FUNCTIONS: dict[str, Callable[[Site], Any]] = {
    name: function
    for name, function in inspect.getmembers(wiring, inspect.isfunction)
    if function.__module__ == wiring.__name__
    and not name.startswith("_")
    and list(inspect.signature(function).parameters) == ["site"]
}


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
    known: dict[str, Settings] = {}  # the same for all hosts, as a rule
    result = {}
    for host, variables in inputs.items():
        given = variables["settings"]
        text = repr(given)
        if text not in known:
            known[text] = validated(given)
        site = Site.from_variables({**variables, "addresses": addresses}, known[text])
        result[host] = {name: _call(name, site) for name in FUNCTIONS}
    return result


def _call(name: str, site: Site) -> Any:
    try:
        return FUNCTIONS[name](site)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name} of {site.host}: {error}") from error
