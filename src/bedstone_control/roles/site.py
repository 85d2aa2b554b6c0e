"""Hold the input of the roles' arguments: settings, secrets, topology, and the current host."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control.ansible_support.plain import plain
from bedstone_control.roles.role import defaults
from bedstone_control.settings.root import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.roles.role import Role
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
        inventory_directory: where paths of the settings start.
        cache_directory: where source archives are kept on the controller.
        roles: all roles.
        variables: the host's values of the roles' arguments that the controller reads.

    """

    settings: Settings
    secrets: Mapping[str, Any] = field(repr=False)
    groups: Mapping[str, list[str]]
    host: str
    addresses: Mapping[str, str]
    inventory_directory: Path
    cache_directory: Path
    roles: tuple[Role, ...]
    variables: Mapping[str, Any]

    @classmethod
    def from_variables(
        cls,
        variables: Mapping[str, Any],
        roles: tuple[Role, ...],
        settings: Settings | None = None,
    ) -> Site:
        """Make a site of Ansible's variables.

        Args:
            variables: what the action `wiring` collects of a host.
            roles: all roles.
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
            inventory_directory=Path(values["inventory_directory"]),
            cache_directory=Path(values["cache_directory"]),
            roles=roles,
            variables=defaults(roles) | values.get("variables", {}),
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

    def app_secret(self, app: App, name: str) -> str:
        """Return a secret of one app.

        Raises:
            ValueError: the vault has none of that name.

        """
        secrets = self.app_secrets(app)
        if name not in secrets:
            raise ValueError(f"The vault has no {name} for the app {app.name}.")
        return secrets[name]

    def previous_secrets(self, app: App) -> dict[str, str]:
        """Return the values before the last rotation, of those secrets of one app that keep it."""
        previous = self.secrets.get("previous", {}).get("apps", {})
        return dict(previous.get(app.name, {}))

    def port(self, variable: str) -> int:
        """Return a port of this host, by the variable that sets it."""
        return int(self.variables[variable])
