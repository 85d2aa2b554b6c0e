"""Shapes of role pgbackrest's destinations: numbered repositories, files of keys, complaints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.roles.pgbackrest import (
    pgbackrest_checks,
    pgbackrest_files,
    pgbackrest_repositories,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "pgbackrest_checks": pgbackrest_checks,
            "pgbackrest_files": pgbackrest_files,
            "pgbackrest_repositories": pgbackrest_repositories,
        }
