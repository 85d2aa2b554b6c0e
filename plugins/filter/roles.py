"""Register the functions of bedstone_control.roles that the roles call as filters."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from bedstone_control import debian
from bedstone_control.roles import base, ca, docker, nginx, pgbackrest, postgresql

if TYPE_CHECKING:
    from collections.abc import Callable

FILTERS: dict[str, Callable[..., Any]] = {
    "authority_files": ca.authority_files,
    "debian_postgresql_major": debian.postgresql_major,
    "docker_daemon": docker.docker_daemon,
    "nginx_certificate_files": nginx.nginx_certificate_files,
    "nginx_header_values": nginx.nginx_header_values,
    "nginx_site_files": nginx.nginx_site_files,
    "nginx_upstream_files": nginx.nginx_upstream_files,
    "operator_problems": base.operator_problems,
    "pgbackrest_checks": pgbackrest.pgbackrest_checks,
    "pgbackrest_files": pgbackrest.pgbackrest_files,
    "pgbackrest_repositories": pgbackrest.pgbackrest_repositories,
    "postgresql_hba": postgresql.postgresql_hba,
    "postgresql_ident": postgresql.postgresql_ident,
    "postgresql_memory": postgresql.postgresql_memory,
    "postgresql_value": postgresql.postgresql_value,
    "trusted_certificate_files": base.trusted_certificate_files,
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
