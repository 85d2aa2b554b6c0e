"""Build the environment variables of an app from what the roles offer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control.settings import placeholders
from bedstone_control.settings.placeholders import used

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_control.roles.role import Offer, Placeholder, Role
    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App


# Default variables that mean nothing without the default of another one.
_FOLLOWS = {"SECRET_KEY_FALLBACKS": "SECRET_KEY"}


def offers(roles: Iterable[Role]) -> list[Offer]:
    """Return what the roles offer to apps."""
    return [offer for role in roles for offer in role.offers]


def default_variables(roles: Iterable[Role]) -> dict[str, str]:
    """Return the variables that an app gets by default when it uses all that is offered."""
    return {name: text for offer in offers(roles) for name, text in offer.variables.items()}


def known_placeholders(roles: Iterable[Role]) -> dict[str, Placeholder]:
    """Return all placeholders by name; `secret.NAME` stands for those of the app's secrets."""
    return {name: item for offer in offers(roles) for name, item in offer.placeholders.items()}


def variables(app: App, roles: Iterable[Role], service: str | None = None) -> dict[str, str]:
    """Return the variables of an app, or of one service, with their placeholders in place."""
    defaults = (offer.variables for offer in offers(roles) if offer.used_by(app))
    return overridden(app, *defaults, service=service)


def owners(app: App) -> list[str | None]:
    """Return what has an environment of its own: the whole app (None), and single services."""
    return [None, *(name for name, service in app.services.items() if service.env)]


def all_variables(app: App, roles: Iterable[Role]) -> list[tuple[str, str]]:
    """Return name and text of every variable of an app, those of single services included."""
    return [item for service in owners(app) for item in variables(app, roles, service).items()]


def overridden(
    app: App, *defaults: Mapping[str, str], service: str | None = None
) -> dict[str, str]:
    """Return default variables as the settings of an app, and of one service, change them."""
    result: dict[str, str] = {}
    declared = app.env if service is None else {**app.env, **app.services[service].env}
    for each in defaults if app.default_env else ():
        result |= each
    for name, followed in _FOLLOWS.items():
        if followed in declared:
            result.pop(name, None)
    for name, value in declared.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def secret_variables(app: App, roles: Iterable[Role]) -> list[str]:
    """Return the names of the variables whose values hold a secret, sorted."""
    known = known_placeholders(roles)
    return sorted(
        {
            name
            for name, text in all_variables(app, roles)
            if any(
                item.startswith("secret.") or (item in known and known[item].secret)
                for item in used(text)
            )
        }
    )


def login_variables(app: App, roles: Iterable[Role]) -> list[str]:
    """Return the names of the variables whose values change with a login's password, sorted."""
    logins = {name for name, item in known_placeholders(roles).items() if item.login}
    return sorted(
        {name for name, text in all_variables(app, roles) if logins.intersection(used(text))}
    )


def placeholder_values(site: Site, app: App, *, migrate: bool = False) -> dict[str, str]:
    """Return what each placeholder of an app stands for.

    Args:
        site: the input of all functions.
        app: the app.
        migrate: whether the values are for migrations, which use a role of their own.

    Raises:
        ValueError: a secret is missing.

    """
    values: dict[str, str] = {}
    for offer in offers(site.roles):
        if offer.used_by(app):
            values |= offer.values(site, app, migrate)
    return values


def hosts(site: Site, app: App) -> dict[str, str]:
    """Return the names of hosts that an app's containers resolve, with their addresses."""
    found: dict[str, str] = {}
    for offer in offers(site.roles):
        if offer.used_by(app):
            found |= offer.hosts(site)
    return found


def environment(
    site: Site, app: App, *, migrate: bool = False, service: str | None = None
) -> dict[str, str]:
    """Return an app's environment with every placeholder replaced.

    Args:
        site: the input of all functions.
        app: the app.
        migrate: whether it is for migrations.
        service: the service whose own variables are added.

    Raises:
        ValueError: a secret is missing or a placeholder unknown.

    """
    values = placeholder_values(site, app, migrate=migrate)
    result = {}
    for name, text in variables(app, site.roles, service).items():
        try:
            result[name] = placeholders.expand(text, values)
        except ValueError as error:
            raise ValueError(f"App {app.name}, variable {name}: {error}") from error
    return result
