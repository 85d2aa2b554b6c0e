"""Filters that pin the keys which a host of the inventory may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible import constants as C  # noqa: N812 - its name in all of Ansible
from ansible.errors import AnsibleFilterError
from ansible.plugins.loader import connection_loader

from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks import host_keys as checks
from bedstone_control.checks.context import as_yaml
from bedstone_control.inventory import host_keys

if TYPE_CHECKING:
    from collections.abc import Callable


def pinned_ssh_args(keys: Any, host: str) -> str:
    """Return the configured arguments of ssh, after those that pin the keys, when there are any.

    Raises:
        AnsibleFilterError: the keys are no keys.

    """
    configured = _configured("ssh_args")
    if (pinned := _checked(keys, host)) is None:
        return configured
    return f"{host_keys.ssh_arguments(pinned)} {configured}".rstrip()


def pinned_control_dir(keys: Any, host: str) -> str:
    """Return the directory of shared connections: one of its own for each set of pinned keys.

    Raises:
        AnsibleFilterError: the keys are no keys.

    """
    configured = _configured("control_path_dir")
    if (pinned := _checked(keys, host)) is None:
        return configured
    return f"{configured.rstrip('/')}/{host_keys.fingerprint(pinned)}"


def _configured(option: str) -> str:
    """Return an option of ssh as ansible.cfg or the environment has it, never a variable's."""
    connection_loader.get("ssh", class_only=True)  # loads the options' definitions
    value = C.config.get_config_value(option, plugin_type="connection", plugin_name="ssh")
    return str(value or "")


def _checked(keys: Any, host: str) -> list[str] | None:
    """Return the keys of a host, None when it pins none."""
    if keys is None:
        return None
    value = plain(keys)
    if (found := checks.fault(value)) is not None:
        raise AnsibleFilterError(
            f"hosts.yml: of the host {host}: {found[1]} Nothing was sent. A right value:\n"
            f"{as_yaml({str(host): {'host_keys': checks.EXAMPLE}})}"
        )
    return list(value)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"pinned_ssh_args": pinned_ssh_args, "pinned_control_dir": pinned_control_dir}
