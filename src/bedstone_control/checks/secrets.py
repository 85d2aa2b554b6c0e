"""Check that the vault is complete, strong, and encrypted on disk. No message shows a secret."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bedstone_control.checks.apps import located
from bedstone_control.checks.context import nearest, readable
from bedstone_control.checks.problems import Problem
from bedstone_control.roles import environment
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.secrets import secrets_of_app
from bedstone_control.settings import placeholders
from bedstone_control.vault import ssh_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.roles.role import Secret
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings

_FEWEST_DIFFERENT = 8
_PLACEHOLDER = re.compile(
    r"change.?(?:me|it|this)|replace.?(?:me|this|with)|insert.?|your[-_ ]|^django-insecure-|"
    r"^(?:x{3,}|\*+|\.+|<.*>|password\d*|passw0rd|passwd|secret(?:[-_ ]?key)?\d*|example.*|"
    r"todo|fixme|tbd|none|null|default|admin|root|test(?:ing)?\d*|postgres|letmein|qwerty\w*|"
    r"0?123456\d*)$",
    re.IGNORECASE,
)
_COMMAND = (
    "python -m bedstone_control secrets {name}   # adds what is missing, changes nothing else"
)
_RANDOM = "…\n# made by: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
_MANUAL = "ansible-vault edit {vault}\n# then, under bedstone_secrets.apps.{app}:\n{name}: {value}"


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check everything in the vault that the settings need."""
    given = context.variables.get("bedstone_secrets")
    place: Place = ("bedstone_secrets",)
    if given is None:
        message = "The vault with the secrets is missing."
        yield context.problem(place, message, _add(context))
        return
    yield from _encrypted(context)
    if not isinstance(given, dict) or not isinstance(given.get("apps", {}), dict):
        message = "The vault does not have the right form."
        yield context.problem(place, message, {"bedstone_secrets": {"ca": {}, "apps": {}}})
        return
    yield from _authority(context)
    seen: dict[str, str] = {}
    for _, app in located(context, settings):
        yield from _app(context, app, secrets_of_app(settings, app.name), seen)


def _add(context: Context) -> str:
    return _COMMAND.format(name=context.inventory_directory.name)


def _edit(context: Context, app: App, name: str, value: str) -> str:
    vault = context.locator.file(("bedstone_secrets",)).split(", line")[0]
    return _MANUAL.format(vault=vault, app=app.name, name=name, value=value)


def _encrypted(context: Context) -> Iterator[Problem]:
    """Check that no secret stands in a file that anyone can read."""
    files = set()
    for place, value in _leaves(("bedstone_secrets",), context.locator.variables):
        origin = context.locator.origin(place)
        is_lookup = isinstance(value, str) and "{{" in value
        # A certificate is public; a text encrypted by itself (`!vault`) is no str.
        if origin is None or is_lookup or not isinstance(value, str) or place[-1] == "certificate":
            continue
        path = Path(origin[0])
        if path.is_file() and not path.read_bytes().startswith(b"$ANSIBLE_VAULT"):
            files.add(path)
    for path in sorted(files):
        message = "Secrets lie on the disk in plain text."
        example = f"ansible-vault encrypt {readable(path)}"
        yield Problem(message, "bedstone_secrets", readable(path), example)


def _leaves(place: Place, variables: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Return the values below a place, as they were loaded."""
    waiting: list[tuple[Place, Any]] = [(place, variables.get(str(place[0])))]
    while waiting:
        there, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*there, key), item) for key, item in value.items()]
        else:
            yield there, value


def _authority(context: Context) -> Iterator[Problem]:
    """Check that the certificate authority is there, whole and still valid."""
    place: Place = ("bedstone_secrets", "ca")
    given = context.secrets.get("ca")
    texts = [
        given.get(name) if isinstance(given, dict) else None for name in ("certificate", "key")
    ]
    certificate, key = texts
    if not isinstance(certificate, str) or not isinstance(key, str):
        message = "The certificate authority (`certificate` and `key`) is missing."
        yield context.problem(place, message, _add(context))
        return
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        message = "The certificate authority can't be read: both are PEM texts, the key plain."
        yield context.problem(place, message, _add(context))
        return
    if parsed.public_key() != private.public_key():
        message = "The authority's key does not belong to its certificate."
        yield context.problem((*place, "key"), message, _add(context))
    if parsed.not_valid_after_utc < dt.datetime.now(dt.UTC):
        message = f"The certificate authority ended on {parsed.not_valid_after_utc:%Y-%m-%d}."
        yield context.problem((*place, "certificate"), message, _add(context))


def _app(
    context: Context, app: App, wanted: Mapping[str, Secret], seen: dict[str, str]
) -> Iterator[Problem]:
    """Check the secrets of one app."""
    place: Place = ("bedstone_secrets", "apps", app.name)
    secrets = context.app_secrets(app)
    missing = [name for name in wanted if secrets.get(name) is None]
    if missing:
        yield context.problem(
            place, _missing(context, app, missing), _missing_example(context, app, wanted, missing)
        )
    in_environment = {
        name
        for _, text in environment.all_variables(app, ROLES)
        for name in placeholders.used(text)
    }
    for name, value in secrets.items():
        where = (*place, name)
        least = wanted[name].least if name in wanted else None
        strong = _edit(context, app, name, _RANDOM)
        if not isinstance(value, str):
            message = f"`{name}` is not a text; put it in quotes."
            yield context.problem(where, message, _edit(context, app, name, '"…"'))
            continue
        if (fault := weakness(value, least)) is not None:
            yield context.problem(where, f"`{name}` {fault}.", strong)
        fault = ssh_keys.private_key_fault(value) if name == "deploy_key" else None
        if fault is not None and name in wanted:
            yield context.problem(where, fault, _add(context))
        single = least is not None or f"secret.{name}" in in_environment
        if single and ("\n" in value or "\r" in value):
            message = (
                f"`{name}` holds a line break, which an environment file can't carry. Use the "
                "secret in a file (`files`, `content`) in place of a variable."
            )
            yield context.problem(
                where, message, {"target": "/app/key.pem", "content": f"${{secret.{name}}}"}
            )
        if least is not None and value:
            here = f"{app.name}.{name}"
            other = seen.setdefault(value, here)
            if other != here:
                message = f"`{name}` is the same secret as {other}: whoever has one has both."
                yield context.problem(where, message, strong)


def _missing(context: Context, app: App, missing: list[str]) -> str:
    """Return which secrets an app lacks, and whether they seem to be there under another name."""
    names = ", ".join(f"`{name}`" for name in missing)
    message = f"The vault lacks {names} for the app `{app.name}`."
    apps = context.secrets.get("apps") or {}
    if app.name not in apps and (match := nearest(app.name, apps)):
        return f"{message} It has secrets for `{match}`."
    close = [(name, nearest(name, context.app_secrets(app))) for name in missing]
    return message + "".join(f" It has a `{match}`." for _, match in close if match)


def _missing_example(
    context: Context, app: App, wanted: Mapping[str, Secret], missing: list[str]
) -> str:
    """Return how the missing secrets get into the vault."""
    name = next((name for name in missing if wanted[name].make is None), None)
    if name is None:
        return _add(context)
    return _edit(context, app, name, "the secret")


def weakness(value: str, least: int | None) -> str | None:
    """Return what is wrong with a secret, None when nothing is.

    Args:
        value: the secret.
        least: the characters that it has at least; None where its length can't be judged.

    """
    if not value.strip():
        return "is empty"
    if _PLACEHOLDER.search(value.strip()):
        return "is a placeholder, not a secret"
    if least is None:
        return None
    if len(value) < least:
        return f"is too short: {len(value)} characters where {least} are the least"
    if len(set(value)) < _FEWEST_DIFFERENT:
        return "is too simple: it has hardly any different characters"
    return None
