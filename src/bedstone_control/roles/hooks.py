"""Build hooks.json for a server's host program from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.settings import placeholders
from bedstone_control.vault.required import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.roles.site import Site


def entries(site: Site) -> list[dict[str, Any]]:
    """Return the hooks with their secrets filled in.

    Raises:
        ValueError: a secret is missing or a placeholder unknown.

    """
    values = _values(site.secrets)
    return [
        {
            "events": list(hook.events),
            "apps": None if hook.apps is None else list(hook.apps),
            "timeout_seconds": hook.timeout_seconds,
            **(
                {"webhook": _expanded(hook.webhook, values, f"hook {number}")}
                if hook.webhook is not None
                else {"mail": list(hook.mail)}
                if hook.mail is not None
                else {"command": list(hook.command or [])}
            ),
        }
        for number, hook in enumerate(site.settings.hooks, start=1)
    ]


def mail(site: Site) -> dict[str, Any] | None:
    """Return how the servers send mail, with the password filled in; None when they don't.

    Raises:
        ValueError: a secret is missing or a placeholder unknown.

    """
    if site.settings.mail is None:
        return None
    values = site.settings.mail.model_dump()
    if values["password"] is not None:
        secrets = _values(site.secrets)
        values["password"] = _expanded(values["password"], secrets, "bedstone_mail.password")
    return values


def _values(secrets: Mapping[str, Any]) -> dict[str, str]:
    return {f"{PREFIX}{name}": text for name, text in (secrets.get("hooks") or {}).items()}


def _expanded(text: str, values: Mapping[str, str], where: str) -> str:
    for name in placeholders.used(text):
        if name not in values:
            missing = name.removeprefix(PREFIX)
            raise ValueError(f"{where}: the vault has no bedstone_secrets.hooks.{missing}.")
    return placeholders.expand(text, values)
