"""Shapes of role backup's destinations: what the host program reads, and their files of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.ansible_support.plain import plain
from bedstone_control.roles import verifier
from bedstone_control.roles.backup import backup_destinations, backup_files, backup_key_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ORIGINS: dict[str, Callable[..., Any]] = {
    "directories": verifier.directories,
    "files": verifier.files,
    "packages": verifier.packages,
    "timers": verifier.timers,
    "units": verifier.units,
}


def backup_origins(origins: Sequence[Mapping[str, Any]], part: str, **arguments: Any) -> Any:
    """Return one part of what a host needs to verify the backups of others.

    Args:
        origins: the role's `backup_origins`.
        part: a function of `bedstone_control.roles.verifier`, by name.
        arguments: further ones of the function.

    """
    return ORIGINS[part](plain(origins), **plain(arguments))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "backup_destinations": backup_destinations,
            "backup_files": backup_files,
            "backup_key_directories": backup_key_directories,
            "backup_origins": backup_origins,
        }
