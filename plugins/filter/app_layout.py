"""List what role app creates: `app_apps | app_layout('files')`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from bedstone_control.ansible_support.plain import plain
from bedstone_control.roles import app as layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PARTS: dict[str, Callable[[Sequence[Mapping[str, Any]]], Any]] = {
    "directories": layout.directories,
    "files": layout.files,
    "packages": layout.packages,
    "units": layout.units,
    "validators": layout.validators,
}


def app_layout(apps: Sequence[Mapping[str, Any]], part: str) -> Any:
    """Return one part of what the apps need on a server: files, units...

    Raises:
        AnsibleFilterError: an environment holds what no program can get.

    """
    try:
        return PARTS[part](plain(apps))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def app_names(apps: Sequence[Mapping[str, Any]], only: Sequence[str] | str = ()) -> list[str]:
    """Return the names of the apps to release: all, or those in `only`.

    Raises:
        AnsibleFilterError: a name that none of the apps has.

    """
    try:
        return layout.released(plain(apps), plain(only))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def app_list(given: Sequence[str] | str) -> list[str]:
    """Return what a list holds, or a text with commas."""
    return layout.listed(plain(given))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"app_layout": app_layout, "app_names": app_names, "app_list": app_list}
