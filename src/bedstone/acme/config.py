"""Read which certificates this server gets by ACME, and from where (role acme writes it)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bedstone.core import paths
from bedstone.core.errors import ConfigError
from bedstone.core.fields import Fields

_PATH = "/etc/bedstone/acme.json"
HOOK = "hook"


@dataclass(frozen=True)
class Wanted:
    """A certificate as it should be.

    Attributes:
        name: the app's.
        domains: what it is for.

    """

    name: str
    domains: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """The authority, and the certificates that it issues.

    Attributes:
        directory: URL of its directory.
        email: of the account, or None.
        external_account: whether there is a key of an account at the authority for certbot.
        profile: the certificates' profile; None for the authority's default.
        dns: certbot's plugin that makes DNS records, or `hook`; None for files on port 80.
        propagation_seconds: how long the plugin waits; None for its default.
        check_challenge: whether the challenge's path is tested first.
        certificates: those that are declared.

    """

    directory: str
    email: str | None
    external_account: bool
    profile: str | None
    dns: str | None
    propagation_seconds: int | None
    check_challenge: bool
    certificates: tuple[Wanted, ...]


def load() -> Settings | None:
    """Return the settings; None on a server without certificates by ACME.

    Raises:
        ConfigError: the file can't be read.

    """
    path = paths.host(_PATH)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{_PATH} can't be read: {error}") from error
    fields = Fields(_PATH)
    values = fields.mapping(document, "the file")
    seconds = values.get("propagation_seconds")
    return Settings(
        fields.string(values.get("directory"), "directory"),
        fields.optional_string(values.get("email"), "email"),
        fields.boolean(values.get("external_account"), "external_account"),
        fields.optional_string(values.get("profile"), "profile"),
        fields.optional_string(values.get("dns"), "dns"),
        None if seconds is None else fields.integer(seconds, "propagation_seconds", 0, 3600),
        fields.boolean(values.get("check_challenge"), "check_challenge"),
        tuple(
            Wanted(
                fields.name(item.get("name"), "certificates"),
                fields.strings(item.get("domains"), "certificates.domains"),
            )
            for item in fields.items(values.get("certificates"), "certificates")
        ),
    )
