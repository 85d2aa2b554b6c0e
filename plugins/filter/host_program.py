"""The host program as one file: `cache_directory | host_program_file`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from bedstone_control.roles import zipapp

if TYPE_CHECKING:
    from collections.abc import Callable


def host_program_file(cache_directory: str) -> str:
    """Build the host program unless it is built, and return its path on the controller.

    Args:
        cache_directory: where built programs are kept, each named by its content.

    Raises:
        AnsibleFilterError: its source isn't in this checkout.

    """
    try:
        return str(zipapp.build(Path(cache_directory)))
    except (OSError, ValueError) as error:
        raise AnsibleFilterError(f"The host program can't be built: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"host_program_file": host_program_file}
