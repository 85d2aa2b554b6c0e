"""Check the hooks: their receivers, their events, and which values have to be in the vault."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bedstone_control import names
from bedstone_control.checks.context import did_you_mean
from bedstone_control.roles import host_program
from bedstone_control.settings import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.hooks import Hook
    from bedstone_control.settings.root import Settings

_WAYS = ("webhook", "mail", "command")
_ADDRESS = re.compile(r"^[^@\s<>,;]+@[^@\s<>,;]+$")
# Services whose URLs are passwords: a client that has one can post.
_SECRET_URLS = re.compile(
    r"^https?://(?:[a-z0-9.-]*\.)?"
    r"(?:hooks\.slack\.com|discord(?:app)?\.com/api/webhooks|webhook\.office\.com|"
    r"chat\.googleapis\.com|api\.telegram\.org)(?:/|$)"
)
# A URL that is a secret as a whole, so that the secret has to be a URL.
_WHOLE = re.compile(r"\$\{secret\.([^}]*)\}")
_EDIT = "ansible-vault edit {vault}\n# then, under bedstone_secrets:\nhooks:\n  {name}: {value}"
_URL_EXAMPLE = "https://chat.example.com/hooks/…"


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check every hook and the way mail is sent."""
    apps = [app.name for app in settings.apps]
    for index, hook in enumerate(settings.hooks):
        place: Place = ("bedstone_hooks", index)
        yield from _way(context, place, hook)
        for number, name in enumerate(hook.apps or []):
            if name not in apps:
                message = f"There is no app `{name}`. {did_you_mean(name, apps)}"
                yield context.problem((*place, "apps", number), message, {"apps": apps[:1]})
    yield from _summary(context, settings)
    yield from _mail(context, settings)
    yield from _placeholders(context, settings)
    yield from _secrets(context, settings)


def _way(context: Context, place: Place, hook: Hook) -> Iterator[Problem]:
    """Check that a hook has exactly one way to report."""
    given = [way for way in _WAYS if getattr(hook, way) is not None]
    if len(given) != 1:
        found = f"here are {len(given)}: {', '.join(given)}" if given else "here is none"
        message = f"A hook has one of `webhook`, `mail` and `command`, and {found}."
        example = [{"events": ["failure"], "webhook": "${secret.chat_url}"}]
        yield context.problem(place, message, {"bedstone_hooks": example})
    for index, address in enumerate(hook.mail or []):
        if not _ADDRESS.match(address):
            message = f"{address!r} is no mail address."
            yield context.problem((*place, "mail", index), message, {"mail": ["ops@example.com"]})
    if hook.command is not None and not (hook.command and hook.command[0].startswith("/")):
        message = "The program is named by its absolute path on the server; no shell looks for it."
        yield context.problem(
            (*place, "command"), message, {"command": "/usr/local/bin/tell-the-pager"}
        )
    webhook = hook.webhook
    if webhook is None or placeholders.used(webhook):
        return
    where = (*place, "webhook")
    if not is_url(webhook):
        message = f"{webhook!r} is no URL: it begins with https:// and has a host."
        yield context.problem(where, message, {"webhook": "${secret.chat_url}"})
    elif _SECRET_URLS.match(webhook):
        # Not shown: the report may end in a log.
        message = (
            "Who knows this URL can post there, and it stands here in plain text. Move it into the "
            "vault, under bedstone_secrets.hooks, and name it here."
        )
        yield context.problem(where, message, {"webhook": "${secret.chat_url}"})


def _summary(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that a summary has both a time and a receiver, or neither."""
    wanted = [index for index, hook in enumerate(settings.hooks) if "summary" in hook.events]
    if settings.summary is not None and not wanted:
        example = [{"events": ["summary"], "mail": ["ops@example.com"]}]
        message = "A summary is made each day, and no hook has the event `summary`."
        yield context.problem(("bedstone_summary",), message, {"bedstone_hooks": example})
    elif settings.summary is None and wanted:
        message = "The hook has the event `summary`, and `bedstone_summary` doesn't say when."
        place: Place = ("bedstone_hooks", wanted[0], "events")
        yield context.problem(place, message, {"bedstone_summary": "07:00"})


def _mail(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that mails can be sent where a hook sends one, and that no password lies open."""
    mail = settings.mail
    if mail is None:
        if any(hook.mail is not None for hook in settings.hooks):
            example = {
                "server": "mail.example.com",
                "user": "bedstone@example.com",
                "password": "${secret.mail_password}",
                "sender": "bedstone@example.com",
            }
            message = "A hook sends mail, and the setting is missing."
            yield context.problem(("bedstone_mail",), message, {"bedstone_mail": example})
        return
    place: Place = ("bedstone_mail",)
    if not _ADDRESS.match(mail.sender):
        message = f"{mail.sender!r} is no mail address."
        yield context.problem((*place, "sender"), message, {"sender": "bedstone@example.com"})
    if (mail.user is None) != (mail.password is None):
        message = "A login needs both `user` and `password`; a server without one neither."
        example = {"user": "bedstone@example.com", "password": "${secret.mail_password}"}
        yield context.problem(place, message, example)
    if mail.password is not None and not placeholders.used(mail.password):
        message = (
            "The password stands here in plain text. Move it into the vault, under "
            "bedstone_secrets.hooks, and name it here."
        )
        where = (*place, "password")
        yield context.problem(where, message, {"password": "${secret.mail_password}"})
    if mail.password is not None and mail.security == "none":
        message = "The password would travel in plain text."
        yield context.problem((*place, "security"), message, {"security": "starttls"})


def _placeholders(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check for placeholders that stand for nothing here."""
    for place, text in host_program.texts(settings):
        for name in placeholders.used(text):
            secret = name.removeprefix(host_program.PREFIX)
            if not name.startswith(host_program.PREFIX) or not re.fullmatch(
                names.ENVIRONMENT_NAME, secret
            ):
                message = f"Unknown placeholder ${{{name}}}. Known is only `secret.NAME`."
                key = str(place[-1])
                right = "${secret.mail_password}" if key == "password" else "${secret.chat_url}"
                yield context.problem(place, message, {key: right})


def _secrets(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that the vault has what the hooks need, and that it can be used."""
    place: Place = ("bedstone_secrets", "hooks")
    present = context.secrets.get("hooks") or {}
    if context.variables.get("bedstone_secrets") is None:
        return  # the whole vault is missing, which is reported already
    if not isinstance(present, dict):
        message = "The hooks' secrets are a mapping of names to texts."
        yield context.problem(place, message, {"hooks": {"chat_url": _URL_EXAMPLE}})
        return
    urls = {
        whole[1]
        for where, text in host_program.texts(settings)
        if where[-1] == "webhook" and (whole := _WHOLE.fullmatch(text)) is not None
    }
    for name in host_program.required_secrets(settings):
        value = present.get(name)
        example = _edit(context, name, _URL_EXAMPLE if name in urls else "the secret")
        if value is None:
            message = (
                f"The vault lacks `{name}` for the hooks. Only you know it: Bedstone makes up "
                "passwords, but never a URL or the password of somebody else's server."
            )
            yield context.problem(place, message, example)
        elif not isinstance(value, str) or not value.strip() or len(value.splitlines()) > 1:
            yield context.problem((*place, name), f"`{name}` is not one line of text.", example)
        elif name in urls and not is_url(value):
            message = f"`{name}` is no URL: it begins with https:// and has a host."
            yield context.problem((*place, name), message, example)


def _edit(context: Context, name: str, value: str) -> str:
    vault = context.locator.file(("bedstone_secrets",)).split(", line")[0]
    return _EDIT.format(vault=vault, name=name, value=value)


def is_url(text: str) -> bool:
    """Return whether a text is an absolute URL of the web."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(host) and not re.search(r"\s", text)
