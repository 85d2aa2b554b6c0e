"""Make the secrets that settings need in the vault, and name those that it lacks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from bedstone_control.roles import registry
from bedstone_control.settings.root import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.roles.role import Secret


def new_secrets(
    settings: Settings | Mapping[str, Any],
    existing: Mapping[str, Any] | None = None,
    inventory: str = "",
) -> dict[str, Any]:
    """Make the secrets that the settings need, for `write_vault`.

    Args:
        settings: the settings, or the content of a settings file.
        existing: the content of the present vault; nothing in it is changed.
        inventory: the inventory's name, which the certificate authority gets.

    Returns:
        The content of the vault: `{"bedstone_secrets": {"ca": ..., "backup": ..., "apps": ...}}`.
        Secrets that only their owner knows (`${secret.NAME}`, all of the hooks, the keys of an S3
        bucket) are not made; see `missing_secrets`.

    Raises:
        ValueError: the vault holds something else where a mapping belongs.

    """
    content: dict[str, Any] = copy.deepcopy(dict(existing or {}))
    for secret in registry.secrets(_settings(settings)):
        if secret.make is not None and _held(content, secret.place) is None:
            parent = content
            for name in ("bedstone_secrets", *secret.place[:-1]):
                parent = _mapping(parent, name)
            parent[secret.place[-1]] = secret.make(inventory)
    return content


def missing_secrets(
    settings: Settings | Mapping[str, Any], content: Mapping[str, Any]
) -> list[str]:
    """Return the secrets that the settings need and a vault lacks, by their place in it.

    That place is `apps.APP.NAME` for an app's, `hooks.NAME` for those of the hooks, `backup.key`
    and `backup.destinations.DESTINATION.NAME`.
    """
    return [
        ".".join(secret.place)
        for secret in registry.secrets(_settings(settings))
        if _held(content, secret.place) is None
    ]


def secrets_of_app(settings: Settings, app: str) -> dict[str, Secret]:
    """Return the secrets that one app needs, by name."""
    return {
        secret.place[-1]: secret
        for secret in registry.secrets(settings)
        if secret.place[:2] == ("apps", app)
    }


def _held(content: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    """Return what a vault holds at a place, None for nothing."""
    value: Any = content
    for name in ("bedstone_secrets", *place):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _mapping(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping in a mapping, making it when it is missing.

    Raises:
        ValueError: something else is there.

    """
    if parent.get(name) is None:
        parent[name] = {}
    if not isinstance(parent[name], dict):
        raise ValueError(f"In the vault, `{name}` is no mapping of names to values.")  # noqa: TRY004 - see Raises
    found: dict[str, Any] = parent[name]
    return found


def _settings(given: Settings | Mapping[str, Any]) -> Settings:
    if isinstance(given, Settings):
        return given
    return Settings.model_validate(
        {name.removeprefix("bedstone_"): value for name, value in given.items()}
    )
