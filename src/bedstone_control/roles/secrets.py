"""Make, replace and name the secrets that settings need in the vault.

Below `bedstone_secrets` of the vault, `made` has the date of each secret by its place, and
`previous` the values before the last rotation of those that are offered to apps as well.
"""

from __future__ import annotations

import copy
import datetime as dt
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone_control.roles import registry
from bedstone_control.settings.root import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.roles.role import Secret

ROOT = "bedstone_secrets"
PREVIOUS = "previous"
_MADE = "made"


@dataclass(frozen=True)
class Age:
    """When a secret was made.

    Attributes:
        secret: the secret.
        made: the day, None for one that is older than the record of days.
        previous: whether its previous value is still accepted.

    """

    secret: Secret
    made: dt.date | None
    previous: bool


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
        if secret.make is not None and held(content, secret.place) is None:
            put(content, secret.place, secret.make(inventory))
    return content


def put(content: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    """Put a secret into a vault's content, with the day.

    Raises:
        ValueError: the vault holds something else where a mapping belongs.

    """
    _parent(content, place)[place[-1]] = value
    made = _mapping(_mapping(content, ROOT), _MADE)
    made[".".join(place)] = dt.datetime.now(dt.UTC).date().isoformat()


def find(settings: Settings, name: str) -> Secret:
    """Return a secret by its place, with dots.

    Raises:
        ValueError: the settings need none of this name.

    """
    known = {".".join(secret.place): secret for secret in registry.secrets(settings)}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
        raise ValueError(f"The settings need no secret {name!r}. {hint}")
    return known[name]


def replace(content: dict[str, Any], secret: Secret, value: Any) -> None:
    """Replace a secret in a vault's content, and keep its previous value if that is offered.

    Raises:
        ValueError: there is none, it is the same, or its previous value would be lost.

    """
    name, present = ".".join(secret.place), held(content, secret.place)
    if present is None:
        raise ValueError(f"The vault has no {name} yet. Add it: make secrets NAME=…")
    if value == present:
        raise ValueError(f"{name}: this is the value that the vault has.")
    if secret.keeps_previous:
        place = (PREVIOUS, *secret.place)
        if held(content, place) is not None:
            raise ValueError(
                f"{name}: its previous value is still accepted, and would be lost before a release "
                f"knows the present one. First: rotate … {name} --forget"
            )
        _parent(content, place)[place[-1]] = present
    put(content, secret.place, value)


def forget(content: dict[str, Any], secret: Secret) -> bool:
    """Drop the previous value of a secret from a vault's content; return whether there was one."""
    place = (PREVIOUS, *secret.place)
    if held(content, place) is None:
        return False
    del _parent(content, place)[place[-1]]
    return True


def ages(settings: Settings, content: Mapping[str, Any]) -> list[Age]:
    """Return when the secrets in a vault were made, in the order of the registry.

    Raises:
        ValueError: the vault holds a day that is none.

    """
    made = held(content, (_MADE,)) or {}
    found = []
    for secret in registry.secrets(settings):
        if held(content, secret.place) is not None:
            day = made.get(".".join(secret.place))
            previous = held(content, (PREVIOUS, *secret.place)) is not None
            found.append(Age(secret, dt.date.fromisoformat(str(day)) if day else None, previous))
    return found


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
        if held(content, secret.place) is None
    ]


def secrets_of_app(settings: Settings, app: str) -> dict[str, Secret]:
    """Return the secrets that one app needs, by name."""
    return {
        secret.place[-1]: secret
        for secret in registry.secrets(settings)
        if secret.place[:2] == ("apps", app)
    }


def held(content: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    """Return what a vault holds at a place, None for nothing."""
    value: Any = content
    for name in (ROOT, *place):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _parent(content: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """Return the mapping in which a place is, making it when it is missing.

    Raises:
        ValueError: the vault holds something else where a mapping belongs.

    """
    parent = content
    for name in (ROOT, *place[:-1]):
        parent = _mapping(parent, name)
    return parent


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
