"""Define the settings of an operator as a schema.

`bedstone_apps` in the settings file is `Settings.apps`, `bedstone_timezone` is
`Settings.timezone`, and so on. Types, defaults, descriptions and examples stand in the schema and
nowhere else: the report of wrong settings and docs/settings.md are made from them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bedstone_control.settings.acme import Acme
from bedstone_control.settings.app import App
from bedstone_control.settings.backup import Backup
from bedstone_control.settings.hooks import Hook, Mail
from bedstone_control.settings.logs import Logs
from bedstone_control.settings.metrics import Metrics
from bedstone_control.settings.types import Model, database_or_none


class Operator(Model):
    """The account with which people administer the servers."""

    name: str = Field(
        "operator",
        pattern=r"^[a-z][a-z0-9_-]{0,30}$",
        description="Name of the account.",
        examples=["alice"],
    )
    authorized_keys: list[str] = Field(
        min_length=1,
        description="Public ssh keys that may log in.",
        examples=[["ssh-ed25519 AAAAC3Nza... alice@laptop"]],
    )


class SecretLife(Model):
    """How long secrets are kept before `rotate --list` calls them old, in days."""

    passwords: int = Field(365, ge=1, description="The databases' passwords.", examples=[180])
    keys: int = Field(
        730,
        ge=1,
        description="Secret keys of apps, ssh keys for sources and backups.",
        examples=[365],
    )
    own: int = Field(
        365, ge=1, description="What other services gave you: `${secret.NAME}`.", examples=[90]
    )


class Deployer(Model):
    """An account that releases apps, and is not root."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,30}$",
        description="Name of the account.",
        examples=["deploy"],
    )
    authorized_keys: list[str] = Field(
        min_length=1,
        description="Public ssh keys that may log in, without forwarding or a terminal.",
        examples=[["ssh-ed25519 AAAAC3Nza... ci@example.com"]],
    )
    apps: list[str] = Field(
        min_length=1,
        description="The apps of which it runs `sudo bedstone release APP`, `rollback APP` and "
        "`status APP`. sudo refuses everything else.",
        examples=[["payments"]],
    )


class Settings(Model):
    """Everything in the settings file, without the prefix `bedstone_`."""

    apps: list[App] = Field(
        min_length=1,
        description="The apps.",
        examples=[
            [
                {
                    "name": "payments",
                    "domains": ["pay.example.com"],
                    "source": {"path": "../../app"},
                    "services": {"web": {"port": 8000, "health": "/health/"}},
                }
            ]
        ],
    )
    operator: Operator | None = Field(
        None,
        description="The administrators' account; none is made when left out.",
        examples=[{"name": "alice", "authorized_keys": ["ssh-ed25519 AAAAC3Nza... alice@laptop"]}],
    )
    deployers: list[Deployer] = Field(
        default_factory=list,
        description="Accounts on the hosts of the apps that release, roll back and show named apps "
        "and can do nothing else as root, for CI.",
        examples=[
            [
                {
                    "name": "deploy",
                    "authorized_keys": ["ssh-ed25519 AAAAC3Nza... ci@example.com"],
                    "apps": ["payments"],
                }
            ]
        ],
    )
    timezone: str = Field(
        "Etc/UTC", description="Time zone of the servers.", examples=["Europe/Berlin"]
    )
    extra_ca_certificates: list[str] = Field(
        default_factory=list,
        description="PEM files on your machine with certificate authorities that the servers "
        "trust, such as a company proxy's; relative to the inventory's directory.",
        examples=[["files/company-ca.crt"]],
    )
    acme: Acme | None = Field(
        None,
        description="An authority that issues and renews the certificates of the apps' domains by "
        "ACME, such as Let's Encrypt: see docs/certificates.md.",
        examples=[{"email": "ops@example.com"}],
    )
    backup: Backup = Field(
        default_factory=lambda: Backup.model_validate({}),
        description="The backups: when, how long they are kept, and where off the server.",
        examples=[{"time": "03:15", "keep_days": 14}],
    )
    hooks: list[Hook] = Field(
        default_factory=list,
        description="Who is told of releases, failures and rollbacks.",
        examples=[[{"events": ["failure"], "webhook": "${secret.chat_url}"}]],
    )
    summary: str | None = Field(
        None,
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
        description="When each server sends a summary of its last day to the hooks with the event "
        "`summary`, in the servers' time zone; quoted. None is sent when left out.",
        examples=["07:00"],
    )
    mail: Mail | None = Field(
        None,
        description="How the servers send mail.",
        examples=[
            {
                "server": "mail.example.com",
                "user": "bedstone@example.com",
                "password": "${secret.mail_password}",
                "sender": "bedstone@example.com",
            }
        ],
    )
    metrics: Annotated[Metrics | None, BeforeValidator(database_or_none)] = Field(
        None,
        description="Metrics of requests, containers, databases and queues for Prometheus, on each "
        "server: docs/metrics.md. `{}` for the defaults; none when left out.",
        examples=[{}],
    )
    logs: Logs | None = Field(
        None,
        description="A collector that the servers send their logs to, as RFC 5424 over TLS: see "
        "docs/logs.md.",
        examples=[{"to": {"host": "logs.example.com", "ca": "files/logs-ca.crt"}}],
    )
    secret_life_days: SecretLife = Field(
        default_factory=lambda: SecretLife.model_validate({}),
        description="How old secrets may be; `python -m bedstone_control rotate NAME --list` shows "
        "their ages and which are past three quarters of it. Nothing else follows.",
        examples=[{"passwords": 180}],
    )


# Variables with the settings' prefix that are no part of the settings file.
OTHER_VARIABLES: dict[str, str] = {
    "bedstone_secrets": "The secrets, in the encrypted vault.yml beside the settings.",
    "host_keys": "Of one host, in hosts.yml: the public ssh keys that the server may have, as "
    "`/etc/ssh/ssh_host_ed25519_key.pub` there holds them. The playbooks then send nothing to a "
    "machine with another key; without them the first key seen is trusted.",
    "bedstone_address": "Of one host, in hosts.yml: the IP address under which the other servers "
    "reach it, when that is not its default one.",
}


def from_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in a host's variables, without their prefix.

    Args:
        variables: any variables; those without the prefix or outside the schema are left out.

    """
    return {
        name: variables[f"bedstone_{name}"]
        for name in Settings.model_fields
        if f"bedstone_{name}" in variables
    }
