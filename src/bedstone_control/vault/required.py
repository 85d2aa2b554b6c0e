"""The secrets that hooks need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control.settings import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.settings.root import Settings


PREFIX = "secret."


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
