"""Role acme: the certificates of the apps' domains by ACME."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedstone_control.roles.groups import PROXY
from bedstone_control.roles.role import Role, Secret, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings


def uses(settings: Settings, app: App) -> bool:
    """Return whether the certificate of an app's domains comes by ACME."""
    declared = settings.acme is not None and app.acme is not False
    return declared and app.tls is None and bool(app.domains)


def acme_problems(output: str) -> list[str]:
    """Return the problems in what `bedstone certificates renew --json` printed, with their apps."""
    return [f"{each['name']}: {each['problem']}" for each in json.loads(output) if each["problem"]]


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return the certificates: one for each app, over all of its domains."""
    return [
        {"name": app.name, "domains": app.all_domains}
        for app in site.settings.apps
        if uses(site.settings, app)
    ]


def state(site: Site) -> str:
    """Return whether there is anything to do for the role."""
    return "present" if certificates(site) else "absent"


def _setting(name: str) -> Callable[[Site], Any]:
    return lambda site: getattr(site.settings.acme, name, None)


def _dns(name: str) -> Callable[[Site], Any]:
    return lambda site: getattr(site.settings.acme and site.settings.acme.dns, name, None)


def hook(site: Site) -> str | None:
    """Return the program that makes DNS records, on the controller."""
    found = _dns("hook")(site)
    return found and site.path(found)


def credentials(site: Site) -> str | None:
    """Return the credentials file of certbot's DNS plugin."""
    if _dns("plugin")(site) is None:
        return None
    found: str | None = site.secrets.get("acme", {}).get("dns_credentials")
    return found


def account_key(site: Site) -> str | None:
    """Return the HMAC key of the operator's account at the authority."""
    if _setting("account_id")(site) is None:
        return None
    found: str | None = site.secrets.get("acme", {}).get("account_key")
    return found


def _secrets(settings: Settings) -> Iterator[Secret]:
    if settings.acme and settings.acme.account_id:
        yield Secret(("acme", "account_key"), "HMAC key of your account at the ACME authority")
    if settings.acme and settings.acme.dns and settings.acme.dns.plugin:
        yield Secret(("acme", "dns_credentials"), "credentials file of certbot's DNS plugin, whole")


ROLE = Role(
    name="acme",
    group=PROXY,
    stage=Stage.FRONT,
    arguments={
        "acme_state": state,
        "acme_certificates": certificates,
        "acme_directory": _setting("directory"),
        "acme_email": _setting("email"),
        "acme_account_id": _setting("account_id"),
        "acme_account_key": account_key,
        "acme_profile": _setting("profile"),
        "acme_check_challenge": lambda site: _setting("check_challenge")(site) is not False,
        "acme_dns_plugin": _dns("plugin"),
        "acme_dns_propagation_seconds": _dns("propagation_seconds"),
        "acme_dns_hook": hook,
        "acme_dns_credentials": credentials,
    },
    secrets=_secrets,
    filters=(acme_problems,),
)
