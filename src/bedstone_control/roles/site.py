"""Hold the input of the wiring: settings, secrets, topology, and the current host."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control.ansible_support.plain import plain
from bedstone_control.settings.root import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.settings.app import App


def validated(settings: Mapping[str, Any]) -> Settings:
    """Return settings that were checked against the schema; null stands for the default.

    Raises:
        ValueError: the settings break the schema.

    """
    return Settings.model_validate(
        {name: value for name, value in settings.items() if value is not None}
    )


@dataclass(frozen=True)
class Site:
    """The input of all functions.

    Attributes:
        settings: what the operator wrote.
        secrets: what the vault holds.
        groups: the inventory's groups and their hosts: the topology.
        host: the host whose arguments are asked for.
        addresses: the IP address of each host.
        bridge: the address of a host on its own Docker bridge, with its network's length.
        address_pools: where Docker takes the networks of the apps from.
        https_port: the port on which nginx answers.
        inventory_directory: where paths of the settings start.
        cache_directory: where source archives are kept on the controller.
        client_certificates: whether PostgreSQL asks for a certificate with the role's name.

    """

    settings: Settings
    secrets: Mapping[str, Any] = field(repr=False)
    groups: Mapping[str, list[str]]
    host: str
    addresses: Mapping[str, str]
    bridge: str
    address_pools: list[dict[str, Any]]
    https_port: int
    inventory_directory: Path
    cache_directory: Path
    client_certificates: bool = False

    @classmethod
    def from_variables(cls, variables: Mapping[str, Any], settings: Settings | None = None) -> Site:
        """Make a site of Ansible's variables.

        Args:
            variables: `__wiring` of playbooks/group_vars/all.yml, and `addresses`.
            settings: the settings of these variables, where they have been validated already.

        Raises:
            ValueError: the settings break the schema (role preflight has a better report).

        """
        values = plain(dict(variables))
        return cls(
            settings=settings or validated(values["settings"]),
            secrets=values["secrets"],
            groups=values["groups"],
            host=values["host"],
            addresses=values["addresses"],
            bridge=values["bridge"],
            address_pools=values["address_pools"],
            https_port=int(values["https_port"]),
            inventory_directory=Path(values["inventory_directory"]),
            cache_directory=Path(values["cache_directory"]),
            client_certificates=bool(values.get("client_certificates", False)),
        )

    def has(self, group: str) -> bool:
        """Return whether the host is in a group."""
        return self.host in self.groups.get(group, [])

    def path(self, text: str) -> str:
        """Return a path of the settings as an absolute one on the controller."""
        return str((self.inventory_directory / Path(text).expanduser()).resolve())

    def app_secrets(self, app: App) -> dict[str, str]:
        """Return the secrets of one app."""
        return dict(self.secrets.get("apps", {}).get(app.name, {}))

    @property
    def bridge_address(self) -> str:
        """The address of this host on its own Docker bridge."""
        return str(ip_interface(self.bridge).ip)

    @property
    def database_address(self) -> str:
        """The address under which this host's containers reach PostgreSQL."""
        hosts = self.groups.get("postgresql", [])
        if not hosts or self.host in hosts:
            return self.bridge_address
        return self.addresses[hosts[0]]
