"""Role host_program: the hooks of the host program, and how it sends mail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone_control.roles.groups import EVERY_HOST
from bedstone_control.roles.role import Role, Secret, Stage
from bedstone_control.settings import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.root import Settings

PREFIX = "secret."


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


def texts(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Return the texts that may hold placeholders, each with its place in the settings."""
    for index, hook in enumerate(settings.hooks):
        if hook.webhook is not None:
            yield ("bedstone_hooks", index, "webhook"), hook.webhook
    if settings.mail is not None and settings.mail.password is not None:
        yield ("bedstone_mail", "password"), settings.mail.password


def required_secrets(settings: Settings) -> list[str]:
    """Return the names of the secrets that the hooks need in the vault."""
    used = {name for _, text in texts(settings) for name in placeholders.used(text)}
    return sorted(name.removeprefix(PREFIX) for name in used if name.startswith(PREFIX))


def _secrets(settings: Settings) -> Iterator[Secret]:
    for name in required_secrets(settings):
        yield Secret(("hooks", name), f"of bedstone_hooks and bedstone_mail: ${{secret.{name}}}")


ROLE = Role(
    name="host_program",
    group=EVERY_HOST,
    stage=Stage.MACHINE,
    arguments={
        "host_program_hooks": entries,
        "host_program_mail": mail,
        "host_program_summary_time": lambda site: site.settings.summary,
    },
    secrets=_secrets,
)
