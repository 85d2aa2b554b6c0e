"""The wiring as filters: `__wiring | bedstone('nginx_sites')`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from pydantic import ValidationError

from bedstone_control import wiring
from bedstone_control.problems import schema_report
from bedstone_control.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PARTS: dict[str, Callable[[Site], Any]] = {
    function.__name__: function
    for function in (
        wiring.app_apps,
        wiring.backup_databases,
        wiring.backup_directory,
        wiring.backup_keep_days,
        wiring.backup_keep_months,
        wiring.backup_keep_weeks,
        wiring.backup_media,
        wiring.backup_schedule,
        wiring.base_extra_ca_certificates,
        wiring.base_operator_authorized_keys,
        wiring.base_operator_name,
        wiring.base_timezone,
        wiring.ca_certificates,
        wiring.host_program_hooks,
        wiring.host_program_mail,
        wiring.nginx_certificate_files,
        wiring.nginx_sites,
        wiring.nginx_upstreams,
        wiring.postgresql_after_units,
        wiring.postgresql_allowed_networks,
        wiring.postgresql_databases,
        wiring.postgresql_listen_addresses,
    )
}


def bedstone(variables: Mapping[str, Any], part: str) -> Any:
    """Return one part of the wiring.

    Args:
        variables: what `bedstone_control.site.Site.from_variables` reads.
        part: a function of the wiring, by name.

    Raises:
        AnsibleFilterError: the settings are wrong.

    """
    try:
        return PARTS[part](Site.from_variables(variables))
    except ValidationError as error:
        raise AnsibleFilterError(schema_report(error)) from error
    except (KeyError, ValueError) as error:
        raise AnsibleFilterError(f"{part}: {error}") from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"bedstone": bedstone}
