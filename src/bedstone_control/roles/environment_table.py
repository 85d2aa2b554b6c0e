"""Describe the environment variables of an app: origin, secrecy, and values without a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bedstone_control.roles import environment
from bedstone_control.roles.secrets import secrets_of_app
from bedstone_control.settings import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App

MASK = "***"
SAME, OWN = "the same", "a value of their own"
# Values that stand in the settings in full, where a placeholder of the vault's should be.
_SECRET_NAME = re.compile(
    r"(?i)(secret|passw|passphrase|token|credential|private|dsn|(^|_)(key|pwd|auth)(_|$))"
)
_SECRET_TEXT = re.compile(r"\$ANSIBLE_VAULT|://[^/@\s]*:[^/@\s]+@|-----BEGIN ")


@dataclass(frozen=True)
class Variable:
    """One variable that an app's containers get.

    Attributes:
        name: its name.
        origin: what sets it.
        secret: whether its value is or contains a secret.
        migrations: whether the migrate commands get the same value.
        value: its value without secrets: placeholders stand for these.

    """

    name: str
    origin: str
    secret: bool
    migrations: str
    value: str


def table(site: Site, app: App) -> list[Variable]:
    """Return all variables of an app, by name. No secret is read.

    Args:
        site: the input of all functions, for any host of the group `app`.
        app: the app.

    Raises:
        ValueError: a placeholder is unknown.

    """
    # Without the vault: what is shown can't hold what was not there.
    names = secrets_of_app(site.settings, app.name)
    blind, other = (
        replace(site, secrets={"apps": {app.name: {name: f"{text}{name}" for name in names}}})
        for text in ("one", "other")
    )
    values = environment.placeholder_values(blind, app)
    migrate = environment.placeholder_values(blind, app, migrate=True)
    # They follow from a secret, as the name of a login does.
    hidden = _different(values, environment.placeholder_values(other, app))
    own = _different(values, migrate)
    secret = environment.secret_variables(app, site.roles)
    shown = {**values, **{item: f"${{{item}}}" for item in hidden}}
    found = []
    for name, text in sorted(environment.variables(app, site.roles).items()):
        used = placeholders.used(text)
        literal = bool(_SECRET_TEXT.search(text) or (not used and _SECRET_NAME.search(name)))
        found.append(
            Variable(
                name,
                _origin(site, app, name),
                literal or name in secret,
                SAME if own.isdisjoint(used) else OWN,
                MASK if literal else _expanded(app, name, text, shown),
            )
        )
    return found


def _different(first: Mapping[str, str], second: Mapping[str, str]) -> set[str]:
    return {name for name in first if first[name] != second[name]}


def _expanded(app: App, name: str, text: str, values: Mapping[str, str]) -> str:
    try:
        return placeholders.expand(text, values)
    except ValueError as error:
        raise ValueError(f"App {app.name}, variable {name}: {error}") from error


def _origin(site: Site, app: App, name: str) -> str:
    setting = f"bedstone_apps[{app.name}].env"
    offered = [
        (role.name, offer.needs)
        for role in site.roles
        for offer in role.offers
        if name in offer.variables and app.default_env and offer.used_by(app)
    ]
    if name in app.env:
        return f"{setting}, in place of a default" if offered else setting
    # The last one counts, as in the environment.
    role, needs = offered[-1]
    return f"default of role {role}" + ("" if needs == "nothing" else f" for {needs}")


def markdown(app: str, variables: Iterable[Variable]) -> str:
    """Return the variables of an app as a table in Markdown."""
    rows = "".join(
        f"| `{item.name}` | {item.origin} | {'yes' if item.secret else 'no'} | {item.migrations} "
        f"| {_code(item.value)} |\n"
        for item in variables
    )
    return (
        f"# Variables of {app}\n\n"
        "`${…}` and `***` stand for what only the vault tells.\n\n"
        f"| variable | origin | secret | migrations get | value |\n|---|---|---|---|---|\n{rows}"
    )


def _code(value: str) -> str:
    if not value:
        return "empty"
    text = " ".join(value.split()).replace("|", "\\|").replace("`", "'")
    return f"`{text}`"


def as_json(apps: Mapping[str, Iterable[Variable]]) -> str:
    """Return the variables of apps as JSON."""
    content: dict[str, Any] = {
        name: [asdict(item) for item in variables] for name, variables in apps.items()
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
