"""Read an inventory without its vault, without Ansible's run and without any server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from bedstone_control.ansible_support.plain import plain
from bedstone_control.inventory import create
from bedstone_control.roles.groups import APP
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.role import defaults
from bedstone_control.roles.site import Site
from bedstone_control.settings.root import Settings, from_variables

if TYPE_CHECKING:
    from pathlib import Path


def site(directory: Path) -> Site:
    """Return the first app host's input of the roles' functions, without a secret.

    Arguments of roles count where the files for all hosts set them.

    Raises:
        ValueError: there are no settings or no app host, or the settings break the schema.

    """
    given = create.variables_of(directory)
    create.settings_of(directory)  # says what is missing
    given["bedstone_apps"] = _evaluated(given["bedstone_apps"], given)
    settings = Settings.model_validate(from_variables(given))
    inventory = _inventory(directory)
    groups = {str(name): plain(hosts) for name, hosts in inventory.get_groups_dict().items()}
    hosts = groups.get(APP.name) or []
    if not hosts:
        raise ValueError(f"{directory / 'hosts.yml'} has no host in the group `{APP.name}`.")
    known = {str(host.name): host.vars for host in inventory.get_hosts()}
    return Site(
        settings=settings,
        secrets={},
        groups=groups,
        host=hosts[0],
        addresses={
            name: str(found.get("bedstone_address") or found.get("ansible_host") or name)
            for name, found in known.items()
        },
        inventory_directory=directory,
        cache_directory=directory / ".cache",
        roles=ROLES,
        variables=defaults(ROLES)
        | {
            name: value
            for name, value in {**given, **known[hosts[0]]}.items()
            if name in defaults(ROLES)
        },
    )


def reached(directory: Path) -> dict[str, str]:
    """Return where the controller reaches each host."""
    return {
        str(host.name): str(host.vars.get("ansible_host") or host.name)
        for host in _inventory(directory).get_hosts()
    }


def _inventory(directory: Path) -> InventoryManager:
    return InventoryManager(loader=DataLoader(), sources=[str(directory / "hosts.yml")])


def _evaluated(value: Any, variables: dict[str, Any]) -> Any:
    """Return a value with Ansible's expressions replaced; those that need the vault stay."""
    if isinstance(value, dict):
        return {name: _evaluated(item, variables) for name, item in value.items()}
    if isinstance(value, list):
        return [_evaluated(item, variables) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    trusted = {
        name: trust_as_template(item) if isinstance(item, str) else item
        for name, item in variables.items()
    }
    try:
        return plain(Templar(DataLoader(), trusted).template(trust_as_template(value)))
    except AnsibleError:
        return value
