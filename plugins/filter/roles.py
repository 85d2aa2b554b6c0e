"""Register the functions that the roles call as filters: of each role's ROLE, and of all roles."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from bedstone_control import debian
from bedstone_control.roles import registry, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

FILTERS: dict[str, Callable[..., Any]] = {
    **registry.filters(),
    "debian_postgresql_major": debian.postgresql_major,
    "systemd_kernel_sandbox": sandbox.systemd_kernel_sandbox,
    "systemd_sandbox": sandbox.systemd_sandbox,
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
