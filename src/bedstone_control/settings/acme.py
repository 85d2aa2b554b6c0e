"""Define the settings of certificates by ACME as a schema."""

from __future__ import annotations

from pydantic import Field

from bedstone_control.settings.types import Model, Text

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Dns(Model):
    """Proof by DNS records in place of files: exactly one of plugin and hook."""

    plugin: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9]*$",
        description="certbot's plugin of Debian's package python3-certbot-dns-PLUGIN. Its "
        "credentials file is the secret `bedstone_secrets.acme.dns_credentials`.",
        examples=["rfc2136"],
    )
    propagation_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="How long the plugin waits for the DNS servers; its own default when left out.",
        examples=[60],
    )
    hook: str | None = Field(
        None,
        description="Program on your machine, relative to the inventory's directory, installed on "
        "the server: called with `create` and with `remove`, it makes and removes the TXT record "
        "`_acme-challenge.$CERTBOT_DOMAIN` with the value `$CERTBOT_VALIDATION`, and ends once "
        "it is served. It may be encrypted with the vault.",
        examples=["files/dns-hook"],
    )


class Acme(Model):
    """An authority that issues certificates by ACME (RFC 8555)."""

    directory: Text = Field(
        LETS_ENCRYPT,
        description="URL of its directory. A private authority's own certificate belongs in "
        "`bedstone_extra_ca_certificates`.",
        examples=["https://acme-staging-v02.api.letsencrypt.org/directory"],
    )
    email: Text | None = Field(
        None,
        description="Address of the account, which some authorities ask for.",
        examples=["ops@example.com"],
    )
    account_id: Text | None = Field(
        None,
        pattern=r"^[!-~]+$",
        description="Key identifier of your account at an authority that asks for one (external "
        "account binding: ZeroSSL, Google, some private ones). Its HMAC key is the secret "
        "`bedstone_secrets.acme.account_key`.",
        examples=["kid-1"],
    )
    profile: Text | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The certificates' profile, as the directory lists them: at Let's Encrypt "
        "`classic`, `tlsserver` or `shortlived`. The authority's default when left out.",
        examples=["shortlived"],
    )
    dns: Dns | None = Field(
        None,
        description="Prove the domains by DNS records in place of files on port 80.",
        examples=[{"plugin": "rfc2136"}],
    )
    check_challenge: bool = Field(
        True,
        description="Whether the server first fetches a file of its own from each domain, and asks "
        "the authority only when that succeeds. `false` for servers that can't reach themselves by "
        "their public address.",
        examples=[False],
    )
