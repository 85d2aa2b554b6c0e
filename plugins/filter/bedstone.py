"""The wiring as filters: `__wiring | bedstone('nginx_sites')`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from pydantic import ValidationError

from bedstone_control.checks.problems import schema_report
from bedstone_control.roles import wiring
from bedstone_control.roles.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Each function of the wiring that needs nothing but the site is a part of it.
PARTS: dict[str, Callable[[Site], Any]] = {
    name: function
    for name, function in inspect.getmembers(wiring, inspect.isfunction)
    if function.__module__ == wiring.__name__
    and not name.startswith("_")
    and list(inspect.signature(function).parameters) == ["site"]
}


def bedstone(variables: Mapping[str, Any], part: str) -> Any:
    """Return one part of the wiring.

    Args:
        variables: what `bedstone_control.roles.site.Site.from_variables` reads.
        part: a function of the wiring, by name.

    Raises:
        AnsibleFilterError: the settings are wrong.

    """
    try:
        return PARTS[part](Site.from_variables(variables))
    except ValidationError as error:
        raise AnsibleFilterError(schema_report(error)) from error
    except (KeyError, ValueError) as error:
        raise AnsibleFilterError(f"{part}: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"bedstone": bedstone}
