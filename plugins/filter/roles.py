"""Register the functions that the roles call as filters: `filters` of each role's ROLE."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from bedstone_control import debian
from bedstone_control.roles import registry

if TYPE_CHECKING:
    from collections.abc import Callable

FILTERS: dict[str, Callable[..., Any]] = {
    **registry.filters(),
    "debian_postgresql_major": debian.postgresql_major,
}


def with_ansible_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its ValueError fails the task with the message alone."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return call


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {name: with_ansible_errors(function) for name, function in FILTERS.items()}
